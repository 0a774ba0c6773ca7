"""The objects that the words of a command line name: encoders, images, references, samplers."""
