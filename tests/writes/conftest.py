"""Consumers in processes of their own, ended with the test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.writes.plant import Plant


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Callable[..., Plant]]:
    """Make one; its processes are killed at the end."""
    made: list[Plant] = []

    def make(url: str, **env: str) -> Plant:
        made.append(Plant(url, tmp_path, **env))
        return made[-1]

    yield make
    for each in made:
        each.close()
    os.environ.pop("WRITES_DB", None)
