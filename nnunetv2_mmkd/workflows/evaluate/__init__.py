"""`mmkd evaluate`: all subsets of the modalities, from trained models or folders of segmentations."""
