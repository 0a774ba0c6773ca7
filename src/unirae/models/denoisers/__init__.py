"""The diffusion transformers, and what they are conditioned on."""
