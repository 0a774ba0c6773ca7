"""References: what images are compared with, in memory, kept and as files."""
