"""One training objective per paper."""
