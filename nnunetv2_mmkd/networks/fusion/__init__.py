"""One file per fusion block."""
