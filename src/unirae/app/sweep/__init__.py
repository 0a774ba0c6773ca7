"""A sweep over samplers: its options, its folder, its table and plot."""
