"""Text encoders: frozen language models whose hidden states a diffusion transformer is conditioned on."""
