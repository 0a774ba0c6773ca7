"""Judges of generated images beside the usual scores."""
