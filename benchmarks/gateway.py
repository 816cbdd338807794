"""Hits through gunicorn: requests a second, and how long they take. `python -m benchmarks.gateway`.

Each row is an application in one gunicorn worker with four threads and kept connections. All run at the same time, and
are asked in turns; the figures are medians of the turns. The worker's CPU time for a request depends less on what else
the machine does than the requests of a second do.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import report
from benchmarks.load import Load, generator, send
from benchmarks.peers import PEERS
from benchmarks.rows import ROWS
from tests.servers import Gunicorn, Server, find_binary

_TITLES = {
    "hello": "WSGI without a framework",
    "same-lines": "the same, with the header lines of a hit",
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
_FLOORS = ("hello", "same-lines", "bare")
_ROWS = tuple(name for name in _TITLES if name in _FLOORS or name in ROWS or name in PEERS)


class Turn(NamedTuple):
    """What a row answered in one turn, and the microseconds of its worker's CPU time that a request took."""

    load: Load
    cpu: float


def _cpu_seconds(pids: Sequence[int]) -> float:
    """CPU time that processes have used, where the system has ``/proc``; else 0."""
    used = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            used += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    return used / os.sysconf("SC_CLK_TCK")


def _turn(web: Gunicorn, seconds: float, connections: int) -> Turn:
    before = _cpu_seconds(web.worker_pids)
    load = send(f"{web.url}/x", seconds=seconds, connections=connections)
    used = _cpu_seconds(web.worker_pids) - before
    return Turn(load, used / (load.per_second * seconds) * 1e6)


def measure(
    names: Sequence[str], *, rounds: int, seconds: float, connections: int
) -> tuple[str, dict[str, list[Turn]]]:
    """What each row answers, round by round, and the server's name."""
    turns: dict[str, list[Turn]] = {name: [] for name in names}
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
                turns[name].append(_turn(web, seconds, connections))
        return str(server.binary), turns


def found(binary: str, turns: dict[str, list[Turn]], method: str) -> report.Report:
    """The table and the plot."""
    rows, bars = [], []
    for name, each in turns.items():
        rate, p50, p99 = (statistics.median(figures) for figures in zip(*(turn.load for turn in each), strict=True))
        cpu = statistics.median(turn.cpu for turn in each)
        share = ""
        if "bare" in turns:
            pairs = zip(each, turns["bare"], strict=True)
            share = f"{statistics.median(mine.load.per_second / bare.load.per_second for mine, bare in pairs):.2f}"
        rows.append((_TITLES[name], f"{rate:,.0f}", share, f"{p50:.2f}", f"{p99:.2f}", f"{cpu:.0f}" if cpu else ""))
        kind = "floor" if name in _FLOORS else "ours" if "flask_rcache" in _TITLES[name] else "other"
        bars.append(report.Bar(_TITLES[name], rate, kind))
    return report.Report(
        name="gateway",
        title="Hits through gunicorn, requests a second",
        command="python -m benchmarks.gateway",
        method=f"{method} {binary}.",
        columns=("", "requests/s", "× bare view", "p50 ms", "p99 ms", "CPU µs a request"),
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
    binary, turns = measure(names, rounds=options.rounds, seconds=options.seconds, connections=options.connections)
    method = (
        f"A response of 2 KB from one worker with 4 threads; {generator()} with {options.connections} kept "
        f"connections, medians of {options.rounds} turns of {options.seconds:g} s."
    )
    report.show(found(binary, turns, method), publish=options.publish)
    return 0


if __name__ == "__main__":
    sys.exit(main())
