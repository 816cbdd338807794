"""Hits through gunicorn: requests a second, and how long they take. `python -m benchmarks.gateway`.

Each row is an application in one gunicorn worker with four threads and kept connections. All run at the same time, and
are asked in turns; the figures are medians of the turns.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
from collections.abc import Sequence

from benchmarks import report
from benchmarks.load import Load, generator, send
from benchmarks.peers import PEERS
from benchmarks.rows import ROWS
from tests.servers import Gunicorn, Server, find_binary

_TITLES = {
    "hello": "WSGI without a framework",
    "bare": "bare view",
    "memory": "flask_rcache, memory",
    "tiered": "flask_rcache, memory tier",
    "front": "flask_rcache, front",
    "redis": "flask_rcache, Redis",
    "unix": "flask_rcache, Redis, unix socket",
    "fc-simple": "Flask-Caching, SimpleCache",
    "fc-redis": "Flask-Caching, RedisCache",
    "dogpile-redis": "dogpile.cache, Redis",
}
#: Those that this revision has.
_ROWS = tuple(name for name in _TITLES if name == "hello" or name in ROWS or name in PEERS)


def measure(
    names: Sequence[str], *, rounds: int, seconds: float, connections: int
) -> tuple[str, dict[str, list[Load]]]:
    """What each row answers, round by round, and the server's name."""
    loads: dict[str, list[Load]] = {name: [] for name in names}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Server(find_binary("any")))
        env = {"BENCH_REDIS": server.url, "BENCH_SOCKET": server.socket_url, "RCACHE_URL": ""}
        webs = {
            name: stack.enter_context(
                Gunicorn(f"benchmarks.served:create('{name}')", threads=4, worker_class="gthread", env=env)
            )
            for name in names
        }
        for web in webs.values():
            for _ in range(3):
                status, _, _ = web.get("/x")
                if status != 200:
                    raise RuntimeError(f"{web.app_path} answered {status}")
        for _ in range(rounds):
            for name, web in webs.items():
                loads[name].append(send(f"{web.url}/x", seconds=seconds, connections=connections))
        return str(server.binary), loads


def found(binary: str, loads: dict[str, list[Load]], method: str) -> report.Report:
    """The table and the plot."""
    rows, bars = [], []
    for name, each in loads.items():
        rate, p50, p99 = (statistics.median(figures) for figures in zip(*each, strict=True))
        share = ""
        if "bare" in loads:
            pairs = zip(each, loads["bare"], strict=True)
            share = f"{statistics.median(mine.per_second / bare.per_second for mine, bare in pairs):.2f}"
        rows.append((_TITLES[name], f"{rate:,.0f}", share, f"{p50:.2f}", f"{p99:.2f}"))
        kind = "floor" if name in ("hello", "bare") else "ours" if "flask_rcache" in _TITLES[name] else "other"
        bars.append(report.Bar(_TITLES[name], rate, kind))
    return report.Report(
        name="gateway",
        title="Hits through gunicorn, requests a second",
        command="python -m benchmarks.gateway",
        method=f"{method} {binary}.",
        columns=("", "requests/s", "× bare view", "p50 ms", "p99 ms"),
        rows=rows,
        bars=bars,
        unit="requests a second",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="for which each row is asked in a round")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--rows", default=",".join(_ROWS), help="which rows, with commas between")
    report.options(parser)
    options = parser.parse_args(argv)
    names = options.rows.split(",")
    if unknown := [name for name in names if name not in _ROWS]:
        parser.error(f"unknown rows {unknown}; known: {', '.join(_ROWS)}")
    binary, loads = measure(names, rounds=options.rounds, seconds=options.seconds, connections=options.connections)
    method = (
        f"A response of 2 KB from one worker with 4 threads; {generator()} with {options.connections} kept "
        f"connections, medians of {options.rounds} turns of {options.seconds:g} s."
    )
    report.show(found(binary, loads, method), publish=options.publish)
    return 0


if __name__ == "__main__":
    sys.exit(main())
