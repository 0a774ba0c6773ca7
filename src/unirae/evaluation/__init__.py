"""Loops over a model and data that end in scores; no Lightning, no Hydra."""
