"""The configuration: its keys, how a command line composes to it, and how its nodes become objects."""
