"""What the twenty share: caches as the processes of a fleet have them, acts on other threads, ways to invalidate."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import redis

from flask_rcache import MISSING, CacheManager, CacheType
from flask_rcache.config.settings import load_settings
from flask_rcache.extension import store_of
from tests.processes import ROOT, wait_until

T = TypeVar("T")

KIND = CacheType("kind", ttl=600)
#: Long enough for the slowest machine; nothing that works takes a tenth of it.
PATIENCE = 20.0
#: By what an entry is invalidated.
MEANS = ("key", "tag", "type", "everything", "pattern")


def cache_on(url: str = "memory://", *, l1_ttl: float = 0, **config: Any) -> CacheManager:
    """A cache as one process of a fleet has it; without the memory tier, unless `l1_ttl` says otherwise."""
    values = {"timeout": 2, "l1_ttl": l1_ttl, "strict": False, **config}
    settings = load_settings(
        {f"RCACHE_{name.upper()}": value for name, value in values.items()} | {"RCACHE_URL": url}, {}
    )
    return CacheManager(settings, store_of(settings), types=[KIND])


def invalidate(cache: CacheManager, means: str, key: str = "k", tag: str = "t") -> None:
    """Invalidate the entry of a key, by itself or with others."""
    {
        "key": lambda: cache.delete(KIND, key),
        "tag": lambda: cache.invalidate_tags(tag),
        "type": lambda: cache.invalidate_type(KIND),
        "everything": cache.clear_all,
        "pattern": lambda: cache.invalidate_pattern(f"{key}*", type=KIND),
    }[means]()


def there(cache: CacheManager, key: str = "k") -> bool:
    """Whether a reader would be given anything."""
    return cache.get(KIND, key, MISSING) is not MISSING


def restored(cache: CacheManager) -> None:
    """Wait until values are stored again: a lost stamp set is made anew by the next heartbeat, not by each load."""
    wait_until(lambda: cache.set(KIND, "restored", 1, tags=["t"]), timeout=PATIENCE, what="a new stamp set")
    cache.delete(KIND, "restored")


class Act(Generic[T]):
    """Something done on another thread."""

    def __init__(self, act: Callable[[], T]) -> None:
        self._results: list[T] = []
        self._errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, args=(act,), daemon=True)
        self._thread.start()

    def _run(self, act: Callable[[], T]) -> None:
        try:
            self._results.append(act())
        except BaseException as error:  # noqa: BLE001  # whoever asks for the result gets it
            self._errors.append(error)

    def result(self) -> T:
        """What it gave, or raise what it raised."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "it hangs"
        if self._errors:
            raise self._errors[0]
        return self._results[0]


class SlowLoader:
    """A loader that has read its value and does not return it before `go`."""

    def __init__(self, value: Any = "old") -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.value = value

    def __call__(self) -> Any:
        self.begun.set()
        self.go.wait(2 * PATIENCE)
        return self.value


def program(text: str, *arguments: object) -> subprocess.Popen[str]:
    """A Python program in a process of its own, which says things on its standard output."""
    return subprocess.Popen(
        [sys.executable, "-c", text, *map(str, arguments)], cwd=ROOT, text=True, stdout=subprocess.PIPE
    )


def said(process: subprocess.Popen[str]) -> str:
    """All that a program says until it ends well."""
    try:
        out, _ = process.communicate(timeout=4 * PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 0, out
    return out


def names_of(client: redis.Redis, pattern: str) -> list[str]:
    """The keys on a server that match."""
    return sorted(name.decode() for name in client.scan_iter(pattern))
