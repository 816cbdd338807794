"""What a hit costs, measured on this machine: `python -m benchmarks`, `python -m benchmarks.raw`."""
