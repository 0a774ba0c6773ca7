"""Loops over images: reading, encoding, scoring, hashes."""
