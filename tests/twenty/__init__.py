"""Twenty behaviours that break caches, by number; each through public names, on real servers and processes."""
