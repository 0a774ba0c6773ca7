"""Results as files, side by side."""
