"""One row in one process, beside a bare view: for ``benchmarks.compare``, which runs it in other revisions' trees too.

It uses nothing but the public interface of ``flask_rcache``. Prints the median ratio of a call to a bare view's.
"""

from __future__ import annotations

import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable

from flask import Flask, Response
from werkzeug.test import EnvironBuilder

from flask_rcache import CacheType, RCache, cache_response

_BODY = (b"0123456789abcdef" * 128)[:2048]
_CALLS = 200


def _caller(app: Flask, *, fresh_url: bool) -> Callable[[], None]:
    environ = EnvironBuilder(path="/x", base_url="http://127.0.0.1/").get_environ()
    numbers = itertools.count()

    def call() -> None:
        sent = environ.copy()
        if fresh_url:
            sent["QUERY_STRING"] = f"n={next(numbers)}"
        answer = app.wsgi_app(sent, lambda *_: lambda data: None)
        if b"".join(answer) != _BODY:
            raise AssertionError("another body")
        close = getattr(answer, "close", None)
        if close is not None:
            close()

    return call


def _view() -> Response:
    return Response(_BODY, mimetype="application/octet-stream")


def main() -> int:
    """Measure one row: ROW URL ROUNDS."""
    row, url, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if os.environ.get("BENCH_CORE"):
        os.sched_setaffinity(0, {int(os.environ["BENCH_CORE"])})
    bare_app = Flask("bare")
    bare_app.add_url_rule("/x", view_func=_view)
    app = Flask("cached")
    kind, _, misses = row.partition("-")
    app.config.update(
        TESTING=True, RCACHE_URL="memory://" if kind == "memory" else url, RCACHE_PREFIX=f"b{os.getpid()}"
    )
    if kind == "redis":
        app.config["RCACHE_L1_TTL"] = 0
    RCache(app)
    app.add_url_rule("/x", view_func=cache_response(CacheType.DASHBOARD, ttl=3600)(_view))
    cached, bare = _caller(app, fresh_url=bool(misses)), _caller(bare_app, fresh_url=bool(misses))
    ratios = []
    for number in range(rounds + 1):
        times = []
        for call in (cached, bare):
            began = time.perf_counter()
            for _ in range(_CALLS):
                call()
            times.append(time.perf_counter() - began)
        if number:  # the first warms up
            ratios.append(times[0] / times[1])
    print(statistics.median(ratios))
    app.extensions["rcache"].close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
