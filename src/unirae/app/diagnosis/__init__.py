"""The page of a diagnosis: its words, curves and pictures."""
