"""Numbers printed in the papers, one file per table."""
