"""How a parallel run (`pytest -n`) hands out tests to its workers.

Owns the order and the grouping, nothing else. A file is one unit, so that its module fixtures are made once.
Races and chaos are one unit together, run one after another by one worker: each of their tests keeps all processors
busy by itself, and two at a time would time each other. That unit comes first, then the other long files, so that no
worker ends long after the others.

The unit is read from a test's id. `xdist_group` marks would do the same, but pytest-xdist 3.8 passes them on in an
attribute that pytest 9 no longer reads: they are ignored without a word.
"""

from __future__ import annotations

import contextlib
import importlib
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

#: Directories whose tests run one at a time.
_ALONE = ("tests/race/", "tests/chaos/")
#: Of them, what waits more than it computes.
_BESIDE = ("tests/chaos/test_restarts.py",)
#: Its tests are handed out by the database that they run on, so that one worker starts it, and no other.
_DATABASES = "tests/sql/"
#: What a test on another database than PostgreSQL has in its name or its parameters.
_OTHERS = ("mariadb", "sqlite")
#: What takes longest, so what is begun first.
_LONG = (
    "tests/race/",
    "tests/chaos/",
    "tests/sql/",
    "tests/test_example_app.py",
    "tests/views/test_model.py",
    "tests/admin/test_dashboard.py",
    "tests/twenty/test_15_processes.py",
    "tests/model/",
    "tests/test_next_flask.py",
    "tests/cli/test_terminal.py",
    "tests/metrics/",
    "tests/test_distribution.py",
)


def unit_of(nodeid: str) -> str:
    """What a test is handed out with.

    >>> unit_of("tests/test_keys.py::test_a[1::2]")
    'tests/test_keys.py'
    >>> unit_of("tests/race/test_crash.py::test_a")
    'alone'
    >>> unit_of("tests/sql/test_databases.py::test_a[sqlite-1]")
    'tests/sql/ sqlite'
    """
    path, _, name = nodeid.partition("::")
    if path.startswith(_DATABASES):
        return f"{_DATABASES} {next((each for each in _OTHERS if each in name), 'postgresql')}"
    return "alone" if path.startswith(_ALONE) and path not in _BESIDE else path


def import_share(root: Path, number: int, count: int) -> None:
    """Import every `count`-th test file under `tests/`, so that its rewritten asserts are kept on the disk.

    After a fresh checkout each worker would otherwise rewrite every file, all of them at the same time. What cannot be
    imported is left to the collection, which says why.

    Args:
        root: The directory that has `tests/`.
        number: Of this worker, from 0.
        count: How many workers there are.
    """
    for path in sorted((root / "tests").rglob("test_*.py"))[number::count]:
        with contextlib.suppress(Exception, pytest.skip.Exception):
            importlib.import_module(".".join(path.relative_to(root).with_suffix("").parts))


def long_first(items: list[pytest.Item]) -> None:
    """Sort tests in place: the long files first, everything else as it was."""
    items.sort(key=lambda item: _rank(item.nodeid))


def _rank(nodeid: str) -> int:
    return next((rank for rank, prefix in enumerate(_LONG) if nodeid.startswith(prefix)), len(_LONG))


class Lanes(LoadScopeScheduling):  # type: ignore[misc]  # it has no annotations
    """Units of `unit_of`, in the order in which the workers collected them."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)
