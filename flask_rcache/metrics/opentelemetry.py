"""OpenTelemetry: the same instruments through its API, and a span for each lookup.

Owns one set of instruments for each meter provider, whatever the number of apps. Imports the API only; whether and
where something is exported is decided by the SDK that the app sets up, before or after.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from importlib.metadata import version
from typing import Final

from opentelemetry import metrics, trace
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
from opentelemetry.trace import Tracer, TracerProvider

from ..engine.manager import CacheManager
from .gauges import Watched
from .names import (
    BUCKETS,
    CACHE,
    COUNTERS,
    DATABASE,
    GAUGES,
    KEY_PREFIX,
    LATENCY,
    NODE,
    OPERATIONS,
    QUEUE,
    SHARD,
    STATEMENT,
    TASK,
    Labels,
)

__all__ = ["OpenTelemetryMeter", "instrument", "uninstrument"]

logger: Final = logging.getLogger("flask_rcache")

_SCOPE: Final = "flask_rcache"
_TYPE: Final = "cache.type"
_OUTCOME: Final = "cache.outcome"
_OPERATION: Final = "cache.operation"
_ATTRIBUTES: Final = {
    CACHE: "cache.name",
    DATABASE: "cache.database",
    KEY_PREFIX: _TYPE,
    NODE: "cache.node",
    QUEUE: "cache.queue",
    SHARD: "cache.shard",
    STATEMENT: "cache.statement",
    TASK: "cache.task",
}


def instrument(
    manager: CacheManager,
    *,
    meter_provider: MeterProvider | None = None,
    tracer_provider: TracerProvider | None = None,
) -> None:
    """Count what a cache does in OpenTelemetry's instruments, and open a span ``cache.fetch`` for each lookup.

    Doing it again changes nothing but the tracer. Spans never have the key, which may be personal.

    Args:
        manager: ``app.extensions["rcache"]``. Several apps of one process share the instruments of a provider.
        meter_provider: the global one when left out, also if it is set later.
        tracer_provider: the same for spans.
    """
    with _instrumenting:
        exporter = _find(meter_provider)
        if exporter is None:
            exporter = _Exporter(meter_provider)
            if meter_provider is None:
                _global.append(exporter)
            else:
                _exporters[meter_provider] = weakref.ref(exporter)
        meters = manager.engine.statistics.meters
        if exporter.meter not in meters:
            exporter.watched.add(manager)
            meters.append(exporter.meter)
        manager.tracer = spans(trace.get_tracer(_SCOPE, version("flask-rcache"), tracer_provider))


def uninstrument(manager: CacheManager, *, meter_provider: MeterProvider | None = None) -> None:
    """Count no more, and open no spans."""
    with _instrumenting:
        exporter = _find(meter_provider)
        meters = manager.engine.statistics.meters
        if exporter is not None and exporter.meter in meters:
            meters.remove(exporter.meter)
            exporter.watched.discard(manager)
        manager.tracer = None


def spans(tracer: Tracer) -> Callable[[str], AbstractContextManager[Callable[[str], None]]]:
    """What a manager calls around a lookup; see ``CacheManager.tracer``."""

    @contextmanager
    def traced(type_name: str) -> Iterator[Callable[[str], None]]:
        with tracer.start_as_current_span(
            "cache.fetch",
            attributes={_TYPE: type_name},
            # What a view raises may be a 404. The span of the request says whether it is an error.
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield partial(span.set_attribute, _OUTCOME)
            except BaseException as error:
                span.set_attribute("error.type", type(error).__qualname__)
                raise

    return traced


class OpenTelemetryMeter:
    """Counts for all managers of one meter provider. It never raises.

    Args:
        meter: makes the instruments.
        labels: bounds the type names.
    """

    __slots__ = ("__weakref__", "_broken", "_counters", "_labels", "_latency", "_timed", "_typed", "exporter")

    def __init__(self, meter: metrics.Meter, labels: Labels, exporter: _Exporter) -> None:
        self._labels: Final = labels
        self._broken = False
        #: Kept alive by whoever counts with it; OpenTelemetry's own references may be weak.
        self.exporter: Final = exporter
        self._counters: Final = {
            field: meter.create_counter(each.otel, each.unit, each.help) for field, each in COUNTERS.items()
        }
        self._latency: Final = meter.create_histogram(
            LATENCY.otel, LATENCY.unit, LATENCY.help, explicit_bucket_boundaries_advisory=BUCKETS
        )
        self._typed: Final[dict[str, dict[str, str]]] = {}
        self._timed: Final[dict[tuple[str, str], dict[str, str]]] = {}

    def count(self, type_name: str, field: str, amount: float) -> None:
        """Count ``amount`` more of a field of ``statistics.FIELDS``."""
        try:
            counter = self._counters.get(field)
            if counter is not None:
                counter.add(amount, self._typed.get(type_name) or self._attributes(type_name))
        except Exception as error:  # noqa: BLE001  # an exporter's defect must not break a request
            self._failed(error)

    def time(self, type_name: str, operation: str, seconds: float) -> None:
        """Note how long an operation took."""
        try:
            attributes = self._timed.get((type_name, operation))
            if attributes is None:
                if operation not in OPERATIONS:
                    return
                attributes = {**self._attributes(type_name), _OPERATION: operation}
                if type_name in self._typed:
                    self._timed[type_name, operation] = attributes
            self._latency.record(seconds, attributes)
        except Exception as error:  # noqa: BLE001  # the same
            self._failed(error)

    def _attributes(self, type_name: str) -> dict[str, str]:
        label = self._labels.of(type_name)
        attributes = {_TYPE: label}
        if label != "other":  # what is beyond the bound is not kept here either
            self._typed[type_name] = attributes
        return attributes

    def _failed(self, error: Exception) -> None:
        if not self._broken:
            self._broken = True
            logger.error("[CACHE ERROR] metrics: could not count; this is logged once", exc_info=error)


class _Exporter:
    """The instruments of one provider."""

    def __init__(self, provider: MeterProvider | None) -> None:
        meter = metrics.get_meter(_SCOPE, version("flask-rcache"), provider)
        labels = Labels()
        self.watched: Final = Watched(labels)
        self.meter: Final = OpenTelemetryMeter(meter, labels, self)
        for name, each in GAUGES.items():
            meter.create_observable_gauge(each.otel, [partial(self._observe, name)], each.unit, each.help)

    def _observe(self, name: str, options: CallbackOptions) -> Iterable[Observation]:
        """The values of one gauge, when a reader collects: in its thread, not in a request."""
        names = [_ATTRIBUTES[label] for label in GAUGES[name].labels]
        return [
            Observation(figure.value, dict(zip(names, figure.labels, strict=True)))
            for figure in self.watched.lately()
            if figure.name == name
        ]


_instrumenting: Final = threading.Lock()
#: The exporter of the global provider, which stays the same when a provider is set later.
_global: Final[list[_Exporter]] = []
#: Weak on both sides: a provider holds its instruments, and these the exporter.
_exporters: Final[weakref.WeakKeyDictionary[MeterProvider, weakref.ref[_Exporter]]] = weakref.WeakKeyDictionary()


def _find(provider: MeterProvider | None) -> _Exporter | None:
    if provider is None:
        return _global[0] if _global else None
    ref = _exporters.get(provider)
    return None if ref is None else ref()
