"""What a Redis that hangs adds to a request: it accepts everything and answers nothing. `python -m benchmarks.outage`.

Each library has a process of its own, with its default settings. A hit is served first; then the server is stopped
(SIGSTOP), and the time of each request is taken. A request that takes longer than the cap is given up with its process.
"""

from __future__ import annotations

import argparse
import queue
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence

from benchmarks import report
from benchmarks.rows import BODY, ROWS, Row
from tests.processes import ROOT
from tests.servers import Server, find_binary

_ROWS = ("redis", "tiered", "fc-redis", "dogpile-redis", "get")
_TITLES = {
    "redis": "flask_rcache, Redis asked on every hit",
    "tiered": "flask_rcache, with the memory tier",
    "fc-redis": "Flask-Caching, RedisCache",
    "dogpile-redis": "dogpile.cache, Redis",
    "get": "a view with one redis.get",
}


def serve(name: str, server: Server, requests: int) -> None:
    """Answer a hit, and for each line of standard input one request; print its milliseconds."""
    from benchmarks.peers import PEERS

    row: Row = {**ROWS, **PEERS}[name](server)
    for _ in range(3):
        row.call()
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(requests):
        began = time.perf_counter()
        try:
            failed = "" if row.call()[1] == BODY else "status 500"
        except Exception as error:  # noqa: BLE001 - what a library raises is what its user gets
            failed = type(error).__name__
        print((time.perf_counter() - began) * 1e3, failed, flush=True)


def _read(lines: Iterable[str], answers: queue.SimpleQueue[str]) -> None:
    for line in lines:
        answers.put(line)


def hung(name: str, server: Server, *, requests: int, cap: float) -> tuple[list[float], set[str]]:
    """Milliseconds of each request while the server hangs, as far as they ended, and what failed.

    Raises:
        RuntimeError: the process did not get as far as its first hit.
    """
    command = [sys.executable, "-m", "benchmarks.outage", "--serve", name, server.url, str(requests)]
    answers: queue.SimpleQueue[str] = queue.SimpleQueue()
    # What each library logs of an outage would bury the table.
    pipe, quiet = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=quiet, text=True) as process:
        assert process.stdin
        assert process.stdout
        threading.Thread(target=_read, args=(process.stdout, answers), daemon=True).start()
        try:
            if answers.get(timeout=60).strip() != "ready":
                raise RuntimeError(f"{name} did not start; see: {' '.join(command)}")
            server.pause()
            process.stdin.write("go\n")
            process.stdin.flush()
            times, failures = [], set()
            for _ in range(requests):
                try:
                    took, _, failed = answers.get(timeout=cap).strip().partition(" ")
                except queue.Empty:
                    times.append(float("inf"))
                    break
                times.append(float(took))
                failures |= {failed} - {""}
        finally:
            process.kill()
            server.resume()
    return times, failures


def _said(milliseconds: float, cap: float) -> str:
    return f"> {cap * 1e3:,.0f}" if milliseconds == float("inf") else f"{milliseconds:,.1f}"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.outage", description=__doc__)
    parser.add_argument("--requests", type=int, default=5)
    parser.add_argument("--cap", type=float, default=20.0, help="seconds after which a request is given up")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    report.options(parser)
    options = parser.parse_args(argv)
    if options.serve:
        from types import SimpleNamespace
        from typing import cast
        from urllib.parse import urlsplit

        import redis

        name, url, requests = options.serve
        address = SimpleNamespace(url=url, port=urlsplit(url).port, client=lambda: redis.Redis.from_url(url))
        serve(name, cast("Server", address), int(requests))
        return 0
    rows, bars = [], []
    with Server(find_binary("any")) as server:
        for name in _ROWS:
            times, failures = hung(name, server, requests=options.requests, cap=options.cap)
            later = statistics.median(times[1:]) if len(times) > 1 else times[0]
            answer = (
                f"fails ({', '.join(sorted(failures))})"
                if failures
                else "given up"
                if later == float("inf")
                else "served"
            )
            rows.append((_TITLES[name], _said(times[0], options.cap), _said(later, options.cap), answer))
            kind = "ours" if "rcache" in _TITLES[name] else "other"
            bars.append(report.Bar(_TITLES[name], min(times[0], options.cap * 1e3), kind))
        binary = str(server.binary)
    found = report.Report(
        name="outage",
        title="A request while Redis hangs, ms of the first one",
        command="python -m benchmarks.outage",
        method=(
            f"Each library with its defaults; the server is stopped by SIGSTOP after a hit; {options.requests} "
            f"requests, given up after {options.cap:g} s; {binary}."
        ),
        columns=("", "the first, ms", "those after it, ms", "the visitor is"),
        rows=rows,
        bars=bars,
        unit="ms",
        logarithmic=True,
    )
    report.show(found, publish=options.publish)
    return 0


if __name__ == "__main__":
    sys.exit(main())
