"""nnU-Net v2 for any subset of the modalities."""

__version__ = "0.1.0"
