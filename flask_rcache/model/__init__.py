"""Data and pure functions: cache types, entries, keys."""
