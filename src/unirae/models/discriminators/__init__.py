"""Discriminators of stage 1: DINO features with small heads, or a PatchGAN that needs no download."""
