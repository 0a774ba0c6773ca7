"""Opening what training wrote, and the folders that models are exported to."""
