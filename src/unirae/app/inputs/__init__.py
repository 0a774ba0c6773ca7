"""From what a user names on the command line to an object."""
