"""A challenge's folder -> nnU-Net raw format."""
