"""The one thing that is changed in other libraries' tests: what their imports find.

While a file of theirs is imported, ``flask_caching`` is our look-alike, and ``cachelib`` has our store in the place of
its own. Their modules below (``flask_caching.backends…``, ``cachelib.serializers``) stay theirs, and so does everything
that a test imports while it runs.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import cachelib
import redis

from flask_rcache.compat.cachelib import RCacheStore

#: The helpers beside cachelib's tests, which they import by their bare names.
_HELPERS: Final = ("clear", "common", "delete_many_with_prefix", "has", "serializer")
#: The port that their tests name, and the port of the server that is there.
ports: Final[dict[int, int]] = {}
#: What the test has opened.
opened: Final[list[Any]] = []


class Clock:
    """A clock that a test moves on, without waiting: that of the stores in memory."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def read(self) -> int:
        """Microseconds."""
        return time.time_ns() // 1000 + int(self._ahead * 1_000_000)

    def advance(self, seconds: float) -> None:
        """Move on."""
        self._ahead += seconds


#: That of all tests here.
clock: Final = Clock()


def sleep(seconds: float) -> None:
    """Their ``time.sleep``: what expires after a second needs no more on a server, and nothing in memory."""
    if seconds < 1:
        time.sleep(seconds)
        return
    clock.advance(seconds)
    if any(isinstance(each, RedisCache) for each in opened):
        time.sleep(min(seconds, 1.3))


class RedisCache(RCacheStore):
    """Our store with the arguments of cachelib's, and the client that its tests empty the database with."""

    def __init__(self, *, port: int = 6379, db: int = 0, socket_connect_timeout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(f"redis://127.0.0.1:{ports.get(port, port)}/{db}", **kwargs)
        self._write_client = redis.Redis(port=ports.get(port, port), db=db)
        opened.extend((self, self._write_client))


class SimpleCache(RCacheStore):
    """Our store in this process's memory; there is no threshold of entries, and nothing is serialised by others."""

    serializer = cachelib.SimpleCache.serializer

    def __init__(self, *, threshold: int = 500, **kwargs: Any) -> None:
        super().__init__("memory://", **kwargs)
        opened.append(self)


class _Data:
    """The values that cachelib's tests store; those of its conftest."""

    sample_numbers = (0, 10, 1024000, 9, 5000000000000, 99, 738, 2000000)
    sample_pairs = {  # noqa: RUF012
        "128": False,
        "beef": True,
        "crevettes": {},
        "1024": "spam",
        "bacon": "eggs",
        "sausage": 2048,
        "3072": [],
        "brandy": [{}, "fried eggs"],
        "lobster": ["baked beans", [512]],
        "4096": {"sauce": [], 256: "truffle"},
    }


@contextmanager
def imports_of(directory: Path) -> Iterator[None]:
    """Replace what the files of a directory import.

    Args:
        directory: ``upstream/flask_caching`` or ``upstream/cachelib``.
    """
    for name in ("flask_caching.backends.simplecache", "cachelib.serializers"):
        importlib.import_module(name)
    found = {"flask_caching": _flask_caching()} if directory.name == "flask_caching" else _cachelib()
    before = {name: sys.modules.get(name) for name in (*found, *_HELPERS)}
    sys.modules.update(found)
    sys.path.insert(0, str(directory))
    try:
        yield
    finally:
        sys.path.remove(str(directory))
        for name, module in before.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module


def _flask_caching() -> ModuleType:
    return importlib.import_module("flask_rcache.compat.flask_caching")


def _cachelib() -> dict[str, ModuleType]:
    module, conftest, patient = ModuleType("cachelib"), ModuleType("conftest"), ModuleType("time")
    vars(module).update(vars(cachelib), RedisCache=RedisCache, SimpleCache=SimpleCache)
    vars(conftest).update(TestData=_Data, under_uwsgi=lambda: False)
    vars(patient).update(vars(time), sleep=sleep)
    return {"cachelib": module, "conftest": conftest, "time": patient}
