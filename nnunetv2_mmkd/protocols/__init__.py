"""Who is trained on, with which modalities: splits, folds, institutions, missing-rate tables."""
