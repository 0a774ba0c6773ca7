"""A training run: its folder, its parts, its trainer."""
