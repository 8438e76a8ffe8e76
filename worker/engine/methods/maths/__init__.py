"""Pure functions on NumPy arrays: what methods feed, and tests check against other libraries."""
