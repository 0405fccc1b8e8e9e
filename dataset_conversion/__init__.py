"""Data set converters: one table-driven converter, one spec per edition."""
