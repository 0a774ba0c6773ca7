"""Between our parameter names and those of other implementations."""
