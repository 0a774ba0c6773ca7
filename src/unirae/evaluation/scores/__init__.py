"""Scores of reconstructions, of generated images and of stored ones."""
