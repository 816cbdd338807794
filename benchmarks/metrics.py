"""What a hit costs with metrics and spans: `python -m benchmarks.metrics`.

The same hit in memory, called in process, with and without exporters. CPU time of the thread, so that other programs
disturb little; the rows take turns in every round, and the last column is the median of the differences to the row
without metrics in the same round.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence

from flask import Flask, Response

from benchmarks.rows import BODY, wsgi_caller
from flask_rcache import CacheManager, CacheType, RCache, cache_response


def _nothing(manager: CacheManager) -> None:
    """No metrics."""


def _prometheus(manager: CacheManager) -> None:
    from prometheus_client import CollectorRegistry

    from flask_rcache.metrics.prometheus import instrument

    instrument(manager, registry=CollectorRegistry())


def _api(manager: CacheManager) -> None:
    from flask_rcache.metrics.opentelemetry import instrument

    instrument(manager)


def _sdk(manager: CacheManager) -> None:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from flask_rcache.metrics.opentelemetry import instrument

    instrument(manager, meter_provider=MeterProvider([InMemoryMetricReader()]))
    manager.tracer = None


def _spans(manager: CacheManager) -> None:
    from opentelemetry.sdk.trace import TracerProvider

    from flask_rcache.metrics.opentelemetry import spans

    # No processor: the price of a span, without that of sending it.
    manager.tracer = spans(TracerProvider().get_tracer("benchmark"))


ROWS: dict[str, Callable[[CacheManager], None]] = {
    "no metrics": _nothing,
    "Prometheus": _prometheus,
    "OpenTelemetry, API only": _api,
    "OpenTelemetry SDK, metrics": _sdk,
    "OpenTelemetry SDK, spans": _spans,
}


def _caller(set_up: Callable[[CacheManager], None]) -> Callable[[], object]:
    app = Flask("metered")
    app.config.update(TESTING=True, RCACHE_URL="memory://")
    RCache(app)
    set_up(app.extensions["rcache"])

    @app.get("/x")
    @cache_response(CacheType.DASHBOARD, ttl=3600)
    def view() -> Response:
        return Response(BODY)

    call = wsgi_caller(app)
    call()
    headers, body = call()
    if ("X-Cache", "HIT") not in headers or body != BODY:
        raise AssertionError(f"not a hit: {headers}")
    return call


def _measure(callers: Mapping[str, Callable[[], object]], *, rounds: int, calls: int) -> dict[str, list[float]]:
    """CPU microseconds a call, one figure a round, by row."""
    times: dict[str, list[float]] = {title: [] for title in callers}
    for turn in range(rounds + 1):
        for title, call in callers.items():
            start = time.thread_time()
            for _ in range(calls):
                call()
            if turn:  # the first warms up
                times[title].append((time.thread_time() - start) / calls * 1e6)
    return times


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.metrics", description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="at least 2")
    parser.add_argument("--calls", type=int, default=300, help="calls of each row in a round")
    parser.add_argument("--multiprocess", action="store_true", help="Prometheus in its multiprocess mode")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as directory:
        if options.multiprocess:  # before prometheus_client is imported
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        callers = {title: _caller(set_up) for title, set_up in ROWS.items()}
        times = _measure(callers, rounds=options.rounds, calls=options.calls)
    print(f"Python {sys.version.split()[0]}, {options.rounds} interleaved rounds of {options.calls} calls")
    print(f"{'':30} {'µs/call':>9} {'µs more':>9}")
    for title, figures in times.items():
        more = statistics.median(a - b for a, b in zip(figures, times["no metrics"], strict=True))
        print(f"{title:30} {statistics.median(figures):9.1f} {more:9.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
