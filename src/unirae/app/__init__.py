"""Hydra and command-line glue: one file per entry script."""
