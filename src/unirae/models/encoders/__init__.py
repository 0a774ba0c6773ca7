"""Frozen vision encoders that turn images into a grid of tokens."""
