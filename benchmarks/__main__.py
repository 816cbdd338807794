"""What a hit costs next to a bare view, to a view that asks Redis once, and to Flask-Caching.

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

from benchmarks.machine import choose_cores, measure, pin
from benchmarks.rows import ROWS, Row
from tests.servers import Server, find_binary


def table(rows: dict[str, Row], times: dict[str, list[float]]) -> str:
    """Lay the figures out, each with its ratio to the bare view of the same round."""
    lines = [f"{'':36} {'µs/call':>9} {'× bare':>8}   {'quartiles':>13}"]
    base = times.get("bare")
    for name, figures in times.items():
        ratio = ""
        if base:
            ratio = f"{statistics.median(a / b for a, b in zip(figures, base, strict=True)):.2f}"
        low, _, high = statistics.quantiles(figures, n=4)
        middle = statistics.median(figures)
        lines.append(f"{rows[name].title:36} {middle:9.1f} {ratio:>8}   {low:6.1f}–{high:.1f}")
    return "\n".join(lines)


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
    parser.add_argument("--rows", default=",".join(ROWS), help="which rows, with commas between")
    parser.add_argument("--profile", metavar="ROW", choices=tuple(ROWS), help="profile one row instead")
    parser.add_argument("--server", choices=("redis", "valkey", "any"), default="any")
    parser.add_argument("--same-core", action="store_true", help="pin the server to the client's core")
    options = parser.parse_args(argv)
    options.rows = [options.profile] if options.profile else options.rows.split(",")
    unknown = [name for name in options.rows if name not in ROWS]
    if unknown or options.rounds < 2:
        parser.error(f"unknown rows {unknown}; known: {', '.join(ROWS)}" if unknown else "at least two rounds")
    return options


def run(options: argparse.Namespace) -> None:
    """Start a server, measure, print."""
    cores = choose_cores(same=options.same_core)
    with Server(find_binary(options.server)) as server:
        # Before the applications: their threads inherit the pinning.
        pin(cores, server_pid=server.pid)
        rows = {name: ROWS[name](server) for name in options.rows}
        try:
            for row in rows.values():
                row.verify()
            if options.profile:
                profile(rows[options.profile], calls=options.calls * 10)
                return
            print(f"{server.binary}, {cores.title}, Python {sys.version.split()[0]}")
            print(f"2 KB response, in process, {options.rounds} interleaved rounds × {options.calls} calls")
            times = measure({name: row.call for name, row in rows.items()}, rounds=options.rounds, calls=options.calls)
            for row in rows.values():
                row.verify()
            print(table(rows, times))
        finally:
            for row in rows.values():
                row.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line."""
    run(parse(argv))
    return 0


if __name__ == "__main__":
    sys.exit(main())
