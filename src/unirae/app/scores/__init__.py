"""Scores of a checkpoint by one command."""
