"""Curves of healthy runs, and where another run leaves the band around them."""
