"""The application under race: a counter in SQLite behind a decorated view and behind `fetch`.

Owns the database, the app with its cache, how a counter is read, and how it is invalidated. Public names only.
"""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from flask import Flask

from flask_rcache import (
    CacheManager,
    CacheType,
    Invalidated,
    RCache,
    cache_hit,
    cache_response,
    cached,
    current_cache,
)
from tests.race.scenarios import Means, Scenario

Way = Literal["view", "fetch"]
WAYS: tuple[Way, ...] = ("view", "fetch")

_FILLER = CacheType("race_filler")
_INNER_TAG = "inner"
_KEY = "counter"
#: The database's file in the directory of a race.
COUNTER = "counter.db"
_GENERATIONS = 3


class Counter:
    """One number in a database that several processes use."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mine = threading.local()
        with sqlite3.connect(path, timeout=30) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("CREATE TABLE IF NOT EXISTS counter (value INTEGER)")
            connection.execute("INSERT INTO counter SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM counter)")
        connection.close()

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._mine, "connection", None)
        if connection is None:
            connection = self._mine.connection = sqlite3.connect(self._path, timeout=30, isolation_level=None)
            connection.execute("PRAGMA synchronous=OFF")  # a power cut may lose it, a process's end may not
        return connection

    def read(self) -> int:
        """The committed value."""
        return int(self._connection().execute("SELECT value FROM counter").fetchone()[0])

    def increment(self) -> int:
        """Commit the next value."""
        row = self._connection().execute("UPDATE counter SET value = value + 1 RETURNING value").fetchone()
        return int(row[0])


class Subject:
    """One process's application.

    Args:
        scenario: what is read and how.
        url: the store.
        directory: where the database lies.
    """

    def __init__(self, scenario: Scenario, url: str, directory: Path) -> None:
        self.scenario = scenario
        self.counter = Counter(directory / COUNTER)
        policy: dict[str, Any] = {"ttl": scenario.ttl, "stale_while_revalidate": scenario.stale_while_revalidate}
        self._types: dict[Way, CacheType] = {
            way: CacheType(f"race_{way}", l1_ttl=scenario.l1_ttl, **policy) for way in WAYS
        }
        inner = CacheType("race_inner", ttl=60, l1_ttl=scenario.l1_ttl)
        self._noticed = threading.local()
        self.app = Flask(__name__)
        self.app.config.update(RCACHE_URL=url, RCACHE_TIMEOUT=scenario.timeout)
        RCache(self.app, types=[*self._types.values(), inner, _FILLER])
        self.cache: CacheManager = self.app.extensions["rcache"]
        self._inner: Callable[[], int] = cached(inner, key_func=lambda: _KEY, tags=[_INNER_TAG])(self._read_slowly)
        self._add_view()
        cache_hit.connect(self._on_hit, sender=self.app)

    def _add_view(self) -> None:
        keyed = (lambda request: _KEY) if "key" in self.scenario.means else None

        @self.app.get("/counter")
        @cache_response(self._types["view"], key_func=keyed, tags=self._tags)
        def counter() -> str:
            return str(self._load())

    @property
    def _tags(self) -> tuple[str, ...]:
        return ("counter",) if "tags" in self.scenario.means else ()

    # Loading

    def _read_slowly(self) -> int:
        value = self.counter.read()
        time.sleep(self.scenario.load_seconds)
        return value

    def _load(self) -> int:
        if self.scenario.body == "nested":
            value = self._inner()
            time.sleep(self.scenario.load_seconds)
            return value
        value = self._read_slowly()
        if self.scenario.body == "tagged":
            current_cache.tag(_generation(value))
        return value

    # Reading

    def reader(self, way: Way) -> Callable[[], int]:
        """A function that reads the counter through the cache; for the thread that asks for it."""
        client = self.app.test_client()

        def fetch() -> int:
            with self.app.app_context():
                return int(self.cache.fetch(self._types["fetch"], _KEY, self._load, tags=self._tags))

        def view() -> int:
            response = client.get("/counter")
            if response.status_code != 200:
                raise RuntimeError(f"{response.status}: {response.text}")
            return int(response.data)

        return fetch if way == "fetch" else view

    def took_a_hit(self, way: Way) -> bool:
        """Whether this thread was given a stored value since it asked last."""
        hit = getattr(self._noticed, way, False)
        setattr(self._noticed, way, False)
        return hit

    def _on_hit(self, sender: Any, *, event: Any) -> None:
        setattr(self._noticed, event.type.removeprefix("race_"), True)

    # Invalidating

    def invalidate(self, value: int) -> bool:
        """Make everything older than `value`, which is committed, invalid; false when that is only journalled."""
        if self.scenario.body == "tagged":
            done = [self.cache.invalidate_tags(_generation(value - 1))]
        elif self.scenario.body == "nested":
            by_type = value % 2
            done = [self.cache.invalidate_type("race_inner") if by_type else self.cache.invalidate_tags(_INNER_TAG)]
        else:
            done = self._invalidate(self.scenario.means[value % len(self.scenario.means)])
        return not any(each.journalled for each in done)

    def _invalidate(self, means: Means) -> list[Invalidated]:
        cache, types = self.cache, list(self._types.values())
        if means == "all":
            return [cache.clear_all()]
        if means == "tags":
            return [cache.invalidate_tags(*self._tags)]
        if means == "type":
            return [cache.invalidate_type(each) for each in types]
        if means == "key":
            engine = cache.engine
            stored = [(each.name, engine.names.stored(each.name, _KEY)) for each in types]
            return [engine.invalidations.keys(name, [key]) for name, key in stored]
        return [cache.invalidate_pattern("*", type=each) for each in types]

    @property
    def is_delivered(self) -> bool:
        """Whether everything journalled has been delivered: not before that is the store trusted again."""
        return self.cache.is_available

    # Filling up

    def fill_up(self) -> None:
        """Store something large that nobody asks for."""
        self.cache.set(_FILLER, random.randrange(1_000_000), random.randbytes(random.randrange(2_000, 20_000)), ttl=60)

    def statistics(self) -> dict[str, float]:
        """This process's counters over all types that are raced for."""
        by_type: Any = self.cache.engine.statistics.report(is_available=True)["by_type"]
        raced = [figures for name, figures in by_type.items() if name != _FILLER.name]
        fields = ("loads", "collapsed", "stale", "refused", "errors", "garbage")
        return {field: sum(figures[field] for figures in raced) for field in fields}


def _generation(value: int) -> str:
    return f"generation-{value % _GENERATIONS}"
