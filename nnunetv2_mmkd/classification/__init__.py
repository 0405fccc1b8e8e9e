"""The methods of this package on image, sound and tabular encoders: classification with missing modalities."""
