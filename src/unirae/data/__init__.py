"""Images and their order: sources, transforms, sampling order; plain torch datasets."""
