"""The gauges: what a cache *is* at a moment, where the counters say what it did.

Owns the way from ``manager.overview()`` to figures with labels, for the managers of one exporter, which it
keeps weakly. An overview asks the store, so this is never called on the way of a request.
"""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

from ..engine.manager import CacheManager
from ..model.named_tuple import NamedTuple
from .names import Labels

__all__ = ["Figure", "Watched"]

logger: Final = logging.getLogger("flask_rcache")

_MOST_NODES: Final = 100
_MOST_STATEMENTS: Final = 100
#: States of a sentinel that answers and knows the master.
_ANSWERING: Final = ("ok", "no quorum")
_REUSED: Final = 1.0  # seconds: one collection of OpenTelemetry asks for each gauge in turn


_Merge: TypeAlias = Callable[[float, float], float]
_Term: TypeAlias = tuple[str, tuple[str, ...], float, _Merge]


class Figure(NamedTuple):
    """One gauge's value: ``name`` is a key of ``names.GAUGES``, ``labels`` are in the order that it gives them."""

    name: str
    labels: tuple[str, ...]
    value: float


class Watched:
    """The managers whose state one exporter shows.

    Args:
        labels: bounds the type names; shared with the counters of the exporter.
        clock: seconds, monotonic.
    """

    def __init__(self, labels: Labels, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._labels: Final = labels
        self._caches: Final = Labels()
        #: A pod that is made anew has another address.
        self._nodes: Final = Labels(_MOST_NODES)
        self._shards: Final = Labels()
        self._queues: Final = Labels()
        self._tasks: Final = Labels()
        self._databases: Final = Labels()
        #: An app that writes values into its SQL, instead of parameters, makes a statement of each.
        self._statements: Final = Labels(_MOST_STATEMENTS)
        self._clock: Final = clock
        self._asked: dict[weakref.WeakMethod[Callable[[], dict[str, Any]]], str] = {}
        self._broken = False
        self._read_at = float("-inf")
        self._figures: list[Figure] = []

    def __bool__(self) -> bool:
        return any(method() is not None for method in tuple(self._asked))

    def add(self, manager: CacheManager) -> None:
        """Show a manager, too; ``current_cache`` works as well: the bound method is the manager's own."""
        self._forget()
        self._asked[weakref.WeakMethod(manager.overview)] = manager.settings.prefix

    def discard(self, manager: CacheManager) -> None:
        """Show it no more."""
        self._asked.pop(weakref.WeakMethod(manager.overview), None)
        self._forget()

    def _forget(self) -> None:
        for method in tuple(self._asked):
            if method() is None:
                self._asked.pop(method, None)

    def lately(self) -> list[Figure]:
        """The figures, read about once a second at most."""
        if self._clock() - self._read_at >= _REUSED:
            self._figures = self.read()
            self._read_at = self._clock()
        return self._figures

    def read(self) -> list[Figure]:
        """The figures now. Two caches of one prefix and one store are one cache; others of one prefix are added up."""
        totals: dict[tuple[str, tuple[str, ...]], float] = {}
        places: set[tuple[str, str]] = set()
        for method, prefix in tuple(self._asked.items()):
            overview = method()
            if overview is None:
                continue
            for name, labels, value, merge in self._terms(overview, self._caches.of(prefix), places):
                key = (name, labels)
                totals[key] = merge(totals[key], value) if key in totals else value
        return [Figure(name, labels, value) for (name, labels), value in totals.items()]

    def _terms(self, overview: Callable[[], dict[str, Any]], cache: str, places: set[tuple[str, str]]) -> list[_Term]:
        """What one manager adds. What lies in a shared store is counted for the first manager that shows it."""
        try:
            state = overview()
            terms: list[_Term] = [(name, (cache,), value, merge) for name, value, merge in _of_process(state)]
            terms += self._of_topology(state.get("topology") or {}, cache)
            place = (cache, state["store"]["location"])
            if state["scope"] != "all" or place not in places:
                terms += [(name, (cache,), value, _add) for name, value in _of_store(state)]
                for type_name, kept in state["types"].items():
                    labels = (cache, self._labels.of(type_name))
                    terms += [(name, labels, float(kept[name]), _add) for name in ("entries", "bytes")]
                terms += self._of_data(state, cache)
                places.add(place)
        except Exception:  # a scrape must not fail because of one cache: its figures are left out
            if not self._broken:
                self._broken = True
                logger.exception("[CACHE ERROR] metrics: the state of a cache could not be read; this is logged once")
            return []
        return terms

    def _of_data(self, state: dict[str, Any], cache: str) -> Iterator[_Term]:
        """What waits in queues and in the stream of events, how warming goes, and how cached statements fare."""
        for queue in state["queues"]:
            labels = (cache, self._queues.of(queue["name"]))
            yield "queue_length", labels, float(queue["length"]), _add
            yield "queue_pending", labels, float(queue["pending"]), _add
            yield "queue_lag", labels, float(queue["lag"]), max
            yield "queue_dead", labels, float(queue["dead"]), _add
            yield "queue_consumed", labels, float(queue["has_consumer"]), min
        events = state["events"]
        if events is not None:
            if events["lag"] is not None:
                yield "events_lag", (cache,), float(events["lag"]), _add
            yield "events_pending", (cache,), float(events["pending"]), _add
        for task in state["warming"]:
            labels = (cache, self._tasks.of(task["name"]))
            yield "warming_duration", labels, float(task["duration"]), max
            yield "warming_failed", labels, float(task["error"] is not None), max
            yield "warming_success", labels, float(task["last_success"] or 0), max
        for each in state["statements"]:
            of_statement = (
                cache,
                self._databases.of(each["database"] or "default"),
                self._statements.of(each["statement"]),
            )
            yield "statement_hits", of_statement, float(each["hits"]), _add
            yield "statement_misses", of_statement, float(each["misses"]), _add
            yield "statement_query_time", of_statement, (each["query_avg"] or 0.0) * each["misses"], _add
            yield "statement_cache_time", of_statement, (each["cache_avg"] or 0.0) * each["hits"], _add

    def _of_topology(self, topology: dict[str, Any], cache: str) -> Iterator[_Term]:
        """The servers as this process sees them: which are away, and since when."""
        if not topology:
            return
        yield "generation", (cache,), float(topology["generation"]), max
        failover = topology["last_failover"]
        yield "failover_at", (cache,), float(failover["at"]) if failover else 0.0, max
        for node in topology["nodes"]:
            labels = (cache, self._nodes.of(node["address"]))
            is_there = node["is_available"]
            yield "node_available", labels, float(is_there), min
            yield "node_away", labels, 0.0 if is_there else max(0.0, time.time() - (node["since"] or time.time())), max
            server = node.get("server")
            if server is not None:
                yield "node_memory", labels, float(server["used_memory"]), max
                yield "node_memory_max", labels, float(server["maxmemory"]), max
                yield "node_evicted", labels, float(server["evicted_keys"]), max
            if "shards" in node:
                yield "node_shards", labels, float(len(node["shards"])), max
        for shard in topology.get("shards", ()):
            labels = (cache, self._shards.of(str(shard["number"])))
            yield "shard_available", labels, float(shard["is_available"]), min
            yield "shard_pending", labels, float(shard["pending"]), _add
        sentinels = [each for each in topology.get("sentinels", ()) if each["state"] != "unknown"]
        for each in sentinels:
            labels = (cache, self._nodes.of(each["address"]))
            yield "sentinel_available", labels, float(each["state"] in _ANSWERING), min
        if sentinels:
            yield "sentinel_quorum", (cache,), float(any(each["state"] == "ok" for each in sentinels)), min


def _add(one: float, other: float) -> float:
    return one + other


def _of_process(state: dict[str, Any]) -> Iterator[tuple[str, float, _Merge]]:
    """What each process, and each manager in it, has for itself."""
    yield "available", float(state["store"]["is_available"]), min
    yield "warnings", float(len(state["store"]["warnings"])), max
    yield "breaker_open", float(state["breaker"]["is_open"]), max
    yield "journal_pending", float(state["journal"]["pending"]), _add
    tier, bus = state["memory_tier"], state["bus"]
    if tier is not None:
        yield "tier_entries", float(tier["entries"]), _add
        yield "tier_bytes", float(tier["bytes"]), _add
        yield "tier_max_bytes", float(tier["max_bytes"]), _add
    if bus is not None and bus["state"] != "off":  # off: not used since the fork
        yield "bus_alive", float(bus["state"] == "alive"), min


def _of_store(state: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """What lies in the store, whichever process asks."""
    yield "loads_running", float(len(state["loads"]))
    server = state["store"]["server"]
    if server is not None:
        yield "server_memory", float(server["used_memory"])
        yield "server_memory_max", float(server["maxmemory"])
        yield "clock_offset", float(server["clock_offset"])
