"""Real processes racing for real data, with an oracle that knows what may be read: see `tests.race.harness`."""
