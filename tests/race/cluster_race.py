"""The cluster race: worker processes answer readers while a writer invalidates, and something happens to the cluster.

The promise it tries: no answer to a request that was sent after an invalidation had returned shows anything older;
no request fails or is slow; and what happens to one node costs the others nothing. In one step::

    figures = run(cluster, web, directory, seconds=12, trouble=lambda: cluster.masters[0].kill())
    assert figures.stale == 0, figures
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from redis.crc import key_slot

from flask_rcache import CacheManager
from flask_rcache.model.keys import Names
from tests.clusters import Cluster
from tests.gunicorns import Gunicorn
from tests.race.cluster_app import COUNTERS, Counters

SHARDS = 16
_READERS = 5


@dataclass
class Figures:
    """What the readers saw.

    Attributes:
        answers: all requests.
        stale: answers older than an invalidation that had returned before the request was sent.
        failed: answers that are none.
        slowest: seconds.
        invalidations: of the writer; ``journalled`` of them were not acknowledged by all shards.
        hits: when (monotonic) each hit of a plain page was, by the number of its counter.
    """

    answers: int = 0
    stale: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    slowest: float = 0.0
    invalidations: int = 0
    journalled: int = 0
    hits: dict[int, list[float]] = field(default_factory=dict)

    def __str__(self) -> str:
        hits = sum(map(len, self.hits.values()))
        return (
            f"{self.answers} answers, {hits} hits of plain pages, {self.invalidations} invalidations "
            f"({self.journalled} journalled), slowest {self.slowest:.2f} s, stale {self.stale[:5]}, "
            f"failed {self.failed[:5]}"
        )

    def hits_between(self, numbers: set[int], since: float, until: float) -> int:
        """Hits of some counters' pages within a time."""
        return sum(since <= at < until for number in numbers for at in self.hits.get(number, ()))


class _Oracle:
    """What every answer has to be as new as."""

    def __init__(self) -> None:
        self._least = [0] * COUNTERS

    def returned(self, number: int, value: int) -> None:
        self._least[number] = value

    def now(self) -> list[int]:
        return list(self._least)


class Race:
    """Readers and a writer, from `start` to `stop`.

    Args:
        web: the application under gunicorn.
        cache: the writer's, in this process.
        directory: of the counters.
    """

    def __init__(self, web: Gunicorn, cache: CacheManager, directory: Path) -> None:
        self.figures = Figures()
        self._web = web
        self._cache = cache
        self._counters = Counters(directory / "counters")
        self._oracle = _Oracle()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._read, args=(seed,)) for seed in range(_READERS)]
        self._threads.append(threading.Thread(target=self._write))

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> Figures:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return self.figures

    def _write(self) -> None:
        draw = random.Random(7)
        while not self._stop.is_set():
            number = draw.randrange(COUNTERS // 2)  # the other half is left alone, and goes on hitting
            value = self._counters.increment(number)
            done = self._cache.invalidate_tags(f"n:{number}")
            self.figures.invalidations += 1
            if done.journalled:
                self.figures.journalled += 1
            else:
                self._oracle.returned(number, value)
            time.sleep(0.01)

    def _read(self, seed: int) -> None:
        draw = random.Random(seed)
        while not self._stop.is_set():
            number = draw.randrange(COUNTERS)
            kind = draw.choice(("plain", "plain", "nested"))
            least, began = self._oracle.now(), time.monotonic()
            headers: dict[str, str] = {}
            try:
                status, fields, body = self._web.get(f"/{kind}/{number}", timeout=10.0)
                headers = dict(fields)
            except OSError as error:
                status, body = 0, repr(error).encode()
            seconds = time.monotonic() - began
            with self._lock:
                self._note(kind, number, least, status, headers, body, seconds)

    def _note(
        self,
        kind: str,
        number: int,
        least: list[int],
        status: int,
        headers: dict[str, str],
        body: bytes,
        seconds: float,
    ) -> None:
        figures = self.figures
        figures.answers += 1
        figures.slowest = max(figures.slowest, seconds)
        if status != 200:
            figures.failed.append(f"{kind}/{number}: {status} {body[:200]!r}")
            return
        for offset, text in enumerate(body.split()):
            counter = (number + offset) % COUNTERS
            if int(text) < least[counter]:
                figures.stale.append(f"{kind}/{number}: {text.decode()} of {counter}, {least[counter]} was invalidated")
        found = {name.lower(): value for name, value in headers.items()}
        if kind == "plain" and found.get("x-cache") == "HIT":
            figures.hits.setdefault(number, []).append(time.monotonic())


def numbers_on(cluster: Cluster, port: int, key_of: Callable[[int], str]) -> set[int]:
    """The counters whose plain pages lie on a node."""
    names = Names()
    found = set()
    for number in range(COUNTERS):
        shard = names.shard_of(key_of(number), SHARDS)
        if cluster.master_of(key_slot(str(shard).encode())).port == port:
            found.add(number)
    return found


def cold_loads(web: Gunicorn, directory: Path, name: str, *, requests: int = 60) -> int:
    """How often a page was loaded that so many ask for at once, in all processes."""
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(web.get(f"/slow/{name}", timeout=20.0)[0]))
        for _ in range(requests)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * requests
    return len((directory / f"runs-{name}").read_text().split())
