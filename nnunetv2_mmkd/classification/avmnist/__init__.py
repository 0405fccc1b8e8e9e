"""Audiovision-MNIST: handwritten and spoken digits in pairs, the classification benchmark of MetaKD and MCKD."""
