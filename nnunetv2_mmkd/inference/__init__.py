"""Prediction for any subset of the modalities."""
