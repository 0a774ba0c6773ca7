"""Conversions between our parameter names and those of other implementations."""
