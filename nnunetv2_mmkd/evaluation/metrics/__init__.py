"""Metrics of overlap, surface distance and lesions, each with its policy for empty regions."""
