"""The scores of ``evaluate.py``: its options, and its way with a checkpoint."""
