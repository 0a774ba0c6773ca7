"""Diffusion transformers, and their conditions."""
