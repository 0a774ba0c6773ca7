"""Where images come from: sources, transforms, sampling order; plain torch datasets."""
