"""Sampling of images from labels and a seed."""
