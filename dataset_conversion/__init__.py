"""One runnable script per edition: ``python dataset_conversion/Dataset501_BraTS2018.py -i SRC -d 501``."""
