"""Applications that have the front, closed when the test ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask

from tests.views.kit import make_app, manager

MakeApp = Callable[..., Flask]


@pytest.fixture
def new_app() -> Iterator[MakeApp]:
    """An application that has the front, unless `RCACHE_FRONT` is given."""
    made: list[Flask] = []

    def make(url: str = "memory://", **options: Any) -> Flask:
        made.append(make_app(url, **{"RCACHE_FRONT": True, **options}))
        return made[-1]

    yield make
    for each in made:
        manager(each).close()
