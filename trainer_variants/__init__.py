"""Trainer classes nnU-Net finds through nnUNet_extTrainer: one file per method."""
