"""From labels and a seed to images."""
