"""Names, configurations and files of diffusers."""
