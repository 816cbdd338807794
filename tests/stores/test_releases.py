"""Two releases whose entries have different envelopes, on one server: as while a new release is being deployed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from flask_rcache import CacheManager
from flask_rcache.codec.envelope import MAGIC
from tests.processes import ROOT, wait_until
from tests.servers import Server
from tests.stores.release import KEYS, listens
from tests.twenty.kit import KIND, MEANS, PATIENCE, invalidate

pytestmark = pytest.mark.slow

Tiers = Callable[..., CacheManager]
OTHER = MAGIC[:3] + bytes([MAGIC[3] + 1])


class Release:
    """A process that runs a copy of the package whose envelope has another version."""

    def __init__(self, url: str, directory: Path) -> None:
        package = shutil.copytree(ROOT / "flask_rcache", directory / "flask_rcache")
        envelope = package / "codec" / "envelope.py"
        text = envelope.read_text()
        ours = f'b"RCE\\x{MAGIC[3]:02x}"'
        assert ours in text
        envelope.write_text(text.replace(ours, f'b"RCE\\x{OTHER[3]:02x}"'))
        self._log = (directory / "log").open("w")
        self.log = directory / "log"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.stores.release", url],
            cwd=directory,  # first on the path of `-m`
            env={**os.environ, "PYTHONPATH": f"{directory}{os.pathsep}{ROOT}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def __call__(self, *what: Any) -> Any:
        """Have it do something."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline() or self.log.read_text())

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=20)
        self._log.close()


@pytest.fixture
def other(redis_server: Server, tmp_path: Path) -> Iterator[Release]:
    """The other release, on the same server and with a memory tier as well."""
    made = Release(redis_server.url, tmp_path)
    assert made("magic") == OTHER.hex()
    yield made
    made.close()


@pytest.fixture
def ours(redis_server: Server, tiers: Tiers) -> CacheManager:
    """This release."""
    return listens(tiers(redis_server.url, l1_ttl=600))


def read_anew(cache: CacheManager) -> object:
    """What the next request would be given."""
    cache.fresh()
    return cache.get(KIND, "k")


def test_releases__entries_are_misses(ours: CacheManager, other: Release, redis_server: Server) -> None:
    """Each loads what the other has stored, and stores it in its own form; the memory tiers keep what they have."""
    assert [other("fetch", "k", "theirs"), other("get", "k")] == ["theirs"] * 2  # what is read is kept in memory
    assert redis_server.client().get("cache:kind:k")[:4] == OTHER  # type: ignore[index]
    assert ours.get(KIND, "k") is None
    assert ours.fetch(KIND, "k", lambda: "ours", tags=["t"]) == "ours"
    assert redis_server.client().get("cache:kind:k")[:4] == MAGIC  # type: ignore[index]
    ours.fresh()
    assert ours.get(KIND, "k") == "ours"
    assert [other("fetch", "k", "again") for _ in range(5)] == ["theirs"] * 5
    assert other("loads") == 1
    assert ours.stats()["by_type"]["kind"]["garbage"] == 2
    assert ours.is_available


def test_releases__invalidations_reach_both(ours: CacheManager, other: Release) -> None:
    """By whatever means, and whichever of them makes it: what both hold in memory and what Redis holds is gone."""
    ways = [partial(invalidate, ours, means) for means in MEANS]
    ways += [partial(other, "invalidate", means, "k") for means in MEANS]
    for number, makes in enumerate(ways):
        assert [other("fetch", "k", number), other("get", "k")] == [number] * 2
        assert ours.fetch(KIND, "k", lambda: "ours", tags=["t"]) == "ours"
        ours.fresh()
        assert (ours.get(KIND, "k"), other("get", "k")) == ("ours", number), "each of its memory"
        makes()
        wait_until(lambda: other("get", "k") is None, timeout=PATIENCE, what="the other release knows")
        wait_until(lambda: read_anew(ours) is None, timeout=PATIENCE, what="this one knows")


def test_releases__write_reaches_both(ours: CacheManager, other: Release) -> None:
    """What one release writes, the other one does not read, and it does not go on with what it had either."""
    ours.set(KIND, "k", "ours", tags=["t"])
    assert other("set", "k", "theirs")
    wait_until(lambda: read_anew(ours) is None, timeout=PATIENCE, what="this one knows")
    assert ours.set(KIND, "k", "ours", tags=["t"])
    wait_until(lambda: other("get", "k") is None, timeout=PATIENCE, what="the other release knows")


def test_releases__patterns_free_entries_of_both(ours: CacheManager, other: Release, redis_server: Server) -> None:
    """What has an envelope of any version is freed; what has none stays, whatever its name."""
    client = redis_server.client()
    assert other("set", "k1", "theirs")
    assert ours.set(KIND, "k2", "ours")
    client.set("cache:kind:k3", b"RC of somebody else")
    client.zadd("cache~index:kind", {"cache:kind:k3": 4e12})
    ours.invalidate_pattern("k*", type=KIND)
    wait_until(lambda: not client.exists("cache:kind:k1", "cache:kind:k2"), timeout=PATIENCE, what="the space is free")
    assert client.get("cache:kind:k3") == b"RC of somebody else"


def test_releases__both_at_once(
    ours: CacheManager, other: Release, redis_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Fetches of the same keys by both, which are invalidated again and again: none is held up, nothing is logged."""
    found: list[float] = []
    thread = threading.Thread(target=lambda: found.append(other("loop", 2.0, "theirs")))
    thread.start()
    while thread.is_alive():
        for key in KEYS:
            value = ours.fetch(KIND, key, lambda: "ours", tags=["t"])
            assert value == "ours", "an answer of the other release's"
            ours.fresh()
        invalidate(ours, "tag")
    thread.join()
    assert found[0] < 1.0
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
    assert other.log.read_text() == ""
