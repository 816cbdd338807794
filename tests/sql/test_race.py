"""PostgreSQL, four processes: nobody is given anything older than what was committed before they began.

`RACE_SECONDS` in the environment sets how long each race takes; the long form is
`python -m tests.sql.racing --seconds 30`.
"""

from __future__ import annotations

import os

import pytest

from .racing import Race, Report
from .servers import Postgres

_SECONDS = float(os.environ.get("RACE_SECONDS", "5"))

pytestmark = [pytest.mark.long, pytest.mark.race, pytest.mark.timeout(120 + 4 * _SECONDS)]


def _assert_right(report: Report) -> None:
    print(report)
    counts = report.counts
    assert not counts["stale"], f"older than a commit that had returned: {report}"
    assert not counts["phantoms"], f"what was never committed: {report}"
    assert not report.left_stale, f"{report}: {report.left_stale}"
    assert counts["hits"] > 0, f"nothing was served: {report}"
    assert counts["commits"] > 0, f"nothing was written: {report}"
    assert counts["rollbacks"] > 0, f"nothing was rolled back: {report}"


def test_race__every_level_savepoints_and_rollbacks(postgres: Postgres, private_server) -> None:
    """Readers and writers whose transactions overlap, at every isolation level, with savepoints and rollbacks."""
    report = Race(postgres.url, private_server().url).run(_SECONDS)
    _assert_right(report)
    assert not report.counts["errors"], str(report)


def test_race__processes_are_killed_and_redis_restarts(postgres: Postgres, private_server) -> None:
    """Processes die between their commit and its stamp, and Redis is restarted on the way."""
    redis = private_server()
    report = Race(postgres.url, redis.url).run(max(_SECONDS, 4), kills=True, torments=[redis.restart])
    _assert_right(report)
    assert report.killed > 1
