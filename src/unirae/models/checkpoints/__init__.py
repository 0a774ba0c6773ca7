"""Opening of training's checkpoints, and the folders that models are exported to."""
