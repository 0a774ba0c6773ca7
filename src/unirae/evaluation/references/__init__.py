"""References that images are compared with: in memory, kept and as files."""
