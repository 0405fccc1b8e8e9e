"""The base trainer: nnUNetTrainerMMKD and what it needs."""
