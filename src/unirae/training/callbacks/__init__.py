"""Callbacks of a run: samples, scores, speed, checkpoints."""
