"""Multi-stream networks built from nnU-Net plans."""
