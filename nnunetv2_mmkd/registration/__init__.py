"""Images of one patient, each on a grid of its own -> one grid, and segmentations the way back."""
