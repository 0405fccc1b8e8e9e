"""Cost of a trainer against stock nnU-Net in the same run."""
