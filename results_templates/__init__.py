"""Row order and printed numbers of the papers' result tables."""
