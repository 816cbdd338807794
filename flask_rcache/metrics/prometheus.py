"""Prometheus: the counters, the latency and the state of the cache, through prometheus_client.

Owns the collectors, one set for each registry, whatever the number of apps. The app exposes them:
it has a ``/metrics`` already, or makes one with ``prometheus_client.make_wsgi_app``.

In multiprocess mode (``PROMETHEUS_MULTIPROC_DIR``) only native collectors are seen, so that a thread sets the gauges
every few seconds. Otherwise they are read when somebody scrapes, and there is no thread.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, cast

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ..engine.manager import CacheManager
from ..errors import ConfigError
from ..stores.redis.housekeeper import Housekeeper
from .gauges import Watched
from .names import BUCKETS, COUNTERS, GAUGES, LATENCY, OPERATIONS, Labels

__all__ = ["PrometheusMeter", "instrument", "uninstrument"]

logger: Final = logging.getLogger("flask_rcache")

_EVERY: Final = 5.0  # seconds between two settings of the gauges in multiprocess mode

#: The value of a gauge that is no longer known, by how it is merged: one that changes no other process's figure.
_NEUTRAL: Final = {"livesum": 0.0, "livemax": 0.0, "livemin": 1.0, "livemostrecent": float("nan")}


def instrument(manager: CacheManager, *, registry: CollectorRegistry | None = None) -> None:
    """Count what a cache does in Prometheus collectors. Doing it again changes nothing.

    Args:
        manager: ``app.extensions["rcache"]``. Several apps of one process share the collectors of a registry.
        registry: where the collectors are registered; prometheus_client's default one when left out.

    Raises:
        ConfigError: the registry has a metric of one of these names already.
    """
    with _instrumenting:
        where = REGISTRY if registry is None else registry
        exporter = _exporters.get(where)
        if exporter is None:
            exporter = _exporters[where] = _Exporter(where)
        meters = manager.engine.statistics.meters
        if exporter.meter not in meters:
            exporter.watched.add(manager)
            meters.append(exporter.meter)


def uninstrument(manager: CacheManager, *, registry: CollectorRegistry | None = None) -> None:
    """Count no more. What was counted stays in the registry; a thread that has nothing to do ends."""
    with _instrumenting:
        exporter = _exporters.get(REGISTRY if registry is None else registry)
        meters = manager.engine.statistics.meters
        if exporter is not None and exporter.meter in meters:
            meters.remove(exporter.meter)
            exporter.watched.discard(manager)
            if not exporter.watched:
                exporter.stop()


class PrometheusMeter:
    """Counts for all managers of one registry. It never raises.

    Args:
        counters: by field.
        latency: the histogram.
        labels: bounds the type names.
        keeper: keeps the gauges up to date from the first count on; ``None`` where they are read at the scrape.
    """

    __slots__ = ("_broken", "_counters", "_counts", "_keeper", "_labels", "_latency", "_times")

    def __init__(
        self, counters: dict[str, Counter], latency: Histogram, labels: Labels, keeper: Housekeeper | None
    ) -> None:
        self._counters: Final = counters
        self._latency: Final = latency
        self._labels: Final = labels
        self._keeper: Final = keeper
        self._broken = False
        self._counts: Final[dict[str, dict[str, Callable[[float], None]]]] = {}
        self._times: Final[dict[str, dict[str, Callable[[float], None]]]] = {}

    def count(self, type_name: str, field: str, amount: float) -> None:
        """Count ``amount`` more of a field of ``statistics.FIELDS``."""
        try:
            keeper = self._keeper
            if keeper is not None:
                keeper.ensure()
            counts = self._counts.get(type_name) or self._counts_of(type_name)
            add = counts.get(field)
            if add is not None:
                add(amount)
        except Exception as error:  # noqa: BLE001  # a full disk, for one: it must not break a request
            self._failed(error)

    def time(self, type_name: str, operation: str, seconds: float) -> None:
        """Note how long an operation took."""
        try:
            times = self._times.get(type_name) or self._times_of(type_name)
            observe = times.get(operation)
            if observe is not None:
                observe(seconds)
        except Exception as error:  # noqa: BLE001  # the same
            self._failed(error)

    def _counts_of(self, type_name: str) -> dict[str, Callable[[float], None]]:
        """The counters of a type. All are made together: a sum over some of them must not miss one that is 0."""
        label = self._labels.of(type_name)
        counts: dict[str, Callable[[float], None]] = {
            field: counter.labels(label).inc for field, counter in self._counters.items()
        }
        if label != "other":  # what is beyond the bound is not kept here either
            self._counts[type_name] = counts
        return counts

    def _times_of(self, type_name: str) -> dict[str, Callable[[float], None]]:
        label = self._labels.of(type_name)
        times: dict[str, Callable[[float], None]] = {
            operation: self._latency.labels(label, operation).observe for operation in OPERATIONS
        }
        if label != "other":
            self._times[type_name] = times
        return times

    def _failed(self, error: Exception) -> None:
        if not self._broken:
            self._broken = True
            logger.error("[CACHE ERROR] metrics: could not count; this is logged once", exc_info=error)


class _Exporter:
    """The collectors of one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        multiprocess = "PROMETHEUS_MULTIPROC_DIR" in os.environ
        labels = Labels()
        self.watched: Final = Watched(labels)
        self._gauges: Final[dict[str, Gauge]] = {}
        self._shown: set[tuple[str, tuple[str, ...]]] = set()
        counters = {
            field: Counter(each.prometheus, each.help, each.labels, registry=None) for field, each in COUNTERS.items()
        }
        latency = Histogram(LATENCY.prometheus, LATENCY.help, LATENCY.labels, registry=None, buckets=BUCKETS)
        collectors: list[Collector] = [*counters.values(), latency]
        if multiprocess:
            for name, each in GAUGES.items():
                mode: Any = each.merge
                self._gauges[name] = Gauge(
                    each.prometheus, each.help, each.labels, registry=None, multiprocess_mode=mode
                )
            collectors += self._gauges.values()
        else:
            collectors.append(_AtScrape(self.watched))
        self.keeper: Final = Housekeeper(name="flask_rcache-metrics", rest=_EVERY) if multiprocess else None
        if self.keeper is not None:
            self.keeper.assign(self._refresh)
        self.meter: Final = PrometheusMeter(counters, latency, labels, self.keeper)
        _register(registry, collectors)

    def stop(self) -> None:
        """End the thread, if there is one."""
        if self.keeper is not None:
            self.keeper.stop()  # the next count starts it again

    def _refresh(self) -> float:
        """Set the gauges of this process; one round of the thread."""
        if not self.watched:
            self.stop()
        figures = self.watched.read()
        shown = {(figure.name, figure.labels) for figure in figures}
        for name, labels in self._shown - shown:
            self._gauges[name].labels(*labels).set(_NEUTRAL[GAUGES[name].merge])
        for figure in figures:
            self._gauges[figure.name].labels(*figure.labels).set(figure.value)
        self._shown |= shown
        return _EVERY


class _AtScrape(Collector):
    """Reads the gauges when somebody scrapes."""

    def __init__(self, watched: Watched) -> None:
        self._watched: Final = watched

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """The names, without asking any store."""
        return _families().values()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        families = _families()
        for figure in self._watched.read():
            families[figure.name].add_metric(figure.labels, figure.value)
        yield from families.values()


def _families() -> dict[str, GaugeMetricFamily]:
    return {name: GaugeMetricFamily(each.prometheus, each.help, labels=each.labels) for name, each in GAUGES.items()}


def _register(registry: CollectorRegistry, collectors: list[Collector]) -> None:
    """Register all of them or none."""
    done: list[Collector] = []
    try:
        for collector in collectors:
            registry.register(collector)
            done.append(collector)
    except ValueError as error:
        for collector in done:
            registry.unregister(collector)
        raise ConfigError(
            f"the metrics of the cache do not fit into this registry: {error}. Give them one of their own: "
            "instrument(manager, registry=CollectorRegistry())"
        ) from error


_instrumenting: Final = threading.Lock()
#: A registry holds its collectors and not the other way round, so that this keeps nothing alive.
_exporters: Final = cast("weakref.WeakKeyDictionary[CollectorRegistry, _Exporter]", weakref.WeakKeyDictionary())
