"""A command's beginning and end: options, logging, one-line errors, devices, progress."""
