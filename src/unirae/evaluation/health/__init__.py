"""Curves of healthy runs, and the places where another run leaves the band around them."""
