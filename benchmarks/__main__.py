"""What a hit costs next to a bare view, to a view that asks Redis once, and to other libraries.

Every row answers the same 2 KB, is checked to be what it says before and after, and takes its turn in every
round; the figures are medians of the rounds, the ratios are to the bare view of the same round. No figure
passes or fails.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import statistics
import sys
from collections.abc import Sequence

from benchmarks import report
from benchmarks.machine import choose_cores, measure, pin
from benchmarks.peers import PEERS, NotInstalledError
from benchmarks.rows import ROWS, Row
from tests.servers import Server, find_binary

ALL = {**ROWS, **PEERS}
#: The rows of the README.
_BRIEF = ("bare", "raw", "memory", "tiered", "front", "redis", "fc-simple", "fc-redis", "dogpile-redis")


def found(rows: dict[str, Row], times: dict[str, list[float]], *, method: str, skipped: Sequence[str]) -> report.Report:
    """What was measured, each row with its ratio to the bare view of the same round."""
    base = times.get("bare")
    table, bars = [], []
    for name, figures in times.items():
        low, _, high = statistics.quantiles(figures, n=4)
        middle = statistics.median(figures)
        ratio = statistics.median(a / b for a, b in zip(figures, base, strict=True)) if base else 0.0
        title = rows[name].title
        table.append((title, f"{middle:.1f}", f"{ratio:.2f}" if base else "", f"{low:.1f}–{high:.1f}"))
        kind = "ours" if "flask_rcache" in title else "floor" if title.startswith("bare") else "other"
        bars.append(report.Bar(title, ratio or middle, kind))
    return report.Report(
        name="hits",
        title="Hits and misses in process, × a bare view" if base else "Hits and misses in process",
        command="python -m benchmarks",
        method=method,
        columns=("", "µs a call", "× bare view", "quartiles"),
        rows=table,
        bars=bars,
        unit="× a bare view" if base else "µs a call",
        skipped=skipped,
        brief=[rows[name].title for name in _BRIEF if name in rows],
    )


def made(names: Sequence[str], server: Server) -> tuple[dict[str, Row], list[str]]:
    """The rows, and why some are left out."""
    rows: dict[str, Row] = {}
    skipped: list[str] = []
    for name in names:
        try:
            rows[name] = ALL[name](server)
        except NotInstalledError as error:
            skipped.append(f"{name}, since {error}")
    return rows, skipped


def profile(row: Row, *, calls: int) -> None:
    """Print where the time of one row goes."""
    recorder = cProfile.Profile()
    recorder.enable()
    for _ in range(calls):
        row.call()
    recorder.disable()
    pstats.Stats(recorder).sort_stats("tottime").print_stats(30)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="at least 2")
    parser.add_argument("--calls", type=int, default=300, help="calls of each row in a round")
    parser.add_argument("--rows", default=",".join(ALL), help="which rows, with commas between")
    parser.add_argument("--profile", metavar="ROW", choices=tuple(ALL), help="profile one row instead")
    parser.add_argument("--server", choices=("redis", "valkey", "any"), default="any")
    parser.add_argument("--same-core", action="store_true", help="pin the server to the client's core")
    report.options(parser)
    options = parser.parse_args(argv)
    options.rows = [options.profile] if options.profile else options.rows.split(",")
    unknown = [name for name in options.rows if name not in ALL]
    if unknown or options.rounds < 2:
        parser.error(f"unknown rows {unknown}; known: {', '.join(ALL)}" if unknown else "at least two rounds")
    return options


def run(options: argparse.Namespace) -> None:
    """Start a server, measure, print."""
    cores = choose_cores(same=options.same_core)
    with Server(find_binary(options.server)) as server:
        # Before the applications: their threads inherit the pinning.
        pin(cores, server_pid=server.pid)
        rows, skipped = made(options.rows, server)
        try:
            for row in rows.values():
                row.verify()
            if options.profile:
                profile(rows[options.profile], calls=options.calls * 10)
                return
            times = measure({name: row.call for name, row in rows.items()}, rounds=options.rounds, calls=options.calls)
            for row in rows.values():
                row.verify()
            method = (
                f"A response of 2 KB, called in process; medians of {options.rounds} interleaved rounds of "
                f"{options.calls} calls; {server.binary}, {cores.title}."
            )
            report.show(found(rows, times, method=method, skipped=skipped), publish=options.publish)
        finally:
            for row in rows.values():
                row.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line."""
    run(parse(argv))
    return 0


if __name__ == "__main__":
    sys.exit(main())
