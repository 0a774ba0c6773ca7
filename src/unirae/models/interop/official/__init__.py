"""Names, configurations and files of the official RAE code."""
