"""What is computed once of a data set's latents: their statistics and their cache."""
