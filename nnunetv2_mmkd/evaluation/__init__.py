"""Evaluation of segmentations over subsets of the modalities: metrics, tables, statistics, pictures. No torch."""
