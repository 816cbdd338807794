"""What a hit costs with metrics and spans: `python -m benchmarks.metrics`.

The same hit in memory, called in process, with and without exporters. CPU time of the thread, so that other programs
disturb little; the rows take turns in every round, and the last column is the median of the ratios to the row without
metrics in the same round. Prometheus' multiprocess mode is measured in a process of its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence

from flask import Flask, Response

from benchmarks import report
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


_NONE = "without metrics"
ROWS: dict[str, Callable[[CacheManager], None]] = {
    _NONE: _nothing,
    "Prometheus": _prometheus,
    "OpenTelemetry without its SDK": _api,
    "OpenTelemetry SDK, metrics": _sdk,
    "OpenTelemetry SDK, spans that are recorded": _spans,
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


def _ratios(rows: Sequence[str], *, rounds: int, calls: int) -> dict[str, tuple[float, float]]:
    """By row: the median of CPU microseconds a call, and of the ratios to the row without metrics in the same round."""
    times = _measure({title: _caller(ROWS[title]) for title in rows}, rounds=rounds, calls=calls)
    return {
        title: (
            statistics.median(figures),
            statistics.median(a / b for a, b in zip(figures, times[_NONE], strict=True)),
        )
        for title, figures in times.items()
    }


def _multiprocess(directory: str, rounds: int, calls: int) -> tuple[float, float]:
    """Prometheus in its multiprocess mode: it has to be set before prometheus_client is imported."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
    return _ratios((_NONE, "Prometheus"), rounds=rounds, calls=calls)["Prometheus"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.metrics", description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="at least 2")
    parser.add_argument("--calls", type=int, default=300, help="calls of each row in a round")
    report.options(parser)
    options = parser.parse_args(argv)
    amount = {"rounds": options.rounds, "calls": options.calls}
    found = _ratios(tuple(ROWS), **amount)
    with tempfile.TemporaryDirectory() as directory, multiprocessing.get_context("spawn").Pool(1) as pool:
        found["Prometheus, multiprocess mode"] = pool.apply(_multiprocess, (directory,), amount)
    report.show(
        report.Report(
            name="metrics",
            title="What metrics and spans add to a hit in memory",
            command="python -m benchmarks.metrics",
            method=(
                f"CPU time of a view's hit, called in process; medians of {options.rounds} interleaved rounds of "
                f"{options.calls} calls. Spans are recorded and not sent."
            ),
            columns=("", "µs a hit", "× without metrics"),
            rows=[(title, f"{micros:.1f}", f"{ratio:.2f}") for title, (micros, ratio) in found.items()],
            bars=(),
            unit="× without metrics",
        ),
        publish=options.publish,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
