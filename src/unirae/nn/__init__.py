"""Building blocks shared by models, losses and metrics: attention, positions, feed-forward, LPIPS."""
