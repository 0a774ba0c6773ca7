"""UniRAE: representation autoencoders and the diffusion transformers that generate in their latent space."""

__version__ = "0.1.0"
