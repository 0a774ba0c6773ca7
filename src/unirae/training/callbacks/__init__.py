"""What watches a run: samples, scores, speed, checkpoints."""
