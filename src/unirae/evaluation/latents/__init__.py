"""Statistics and cache of a data set's latents, computed once."""
