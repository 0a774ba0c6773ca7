"""Pictures that several commands draw, and the folder of samples."""
