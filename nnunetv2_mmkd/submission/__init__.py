"""Challenge submission formats."""
