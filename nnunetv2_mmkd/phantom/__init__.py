"""The digital brain-tumour phantom, the embedded data set."""
