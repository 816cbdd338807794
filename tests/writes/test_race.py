"""Processes write through with versions against readers: no read begun after a write returned is older.

`RACE_SECONDS=8` in the environment is the long form.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from flask_rcache import current_cache
from tests.processes import ROOT
from tests.servers import Server
from tests.writes.race import NUMBER, Source, make_app, slots

_SECONDS = float(os.environ.get("RACE_SECONDS", "3"))


@pytest.mark.race
def test_through__no_read_is_older_than_a_write_that_has_returned(redis_server: Server, tmp_path: Path) -> None:
    """Four write, two read; in the end source and cache have the last version."""
    source = Source(tmp_path)
    returned = slots(tmp_path)
    command = [sys.executable, "-m", "tests.writes.race", redis_server.url, str(tmp_path), str(_SECONDS)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=env, text=True, capture_output=True, timeout=100 + _SECONDS, check=True
    )
    figures: dict[str, int] = Counter()
    for line in done.stdout.splitlines():
        name, _, number = line.partition(" ")
        assert name in ("writes", "reads", "loads"), done.stdout
        figures[name] += int(number)
    assert figures["writes"] > 20, figures
    assert figures["reads"] > 20, figures
    assert figures["loads"] < figures["reads"], figures  # some were answered by what was written through
    with make_app(redis_server.url).app_context():
        assert current_cache.fetch(NUMBER, "n", source.load) == source.load() == max(returned)
        current_cache.close()
