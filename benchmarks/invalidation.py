"""Removing many entries of more: how long it takes, and how long the server answers nobody meanwhile.

`python -m benchmarks.invalidation` has a database of a million keys, a tenth of which are entries that are to go.
Beside `invalidate_type` it measures what other libraries do: `KEYS` and one `DEL` (Flask-Caching's `clear`), and
`SCAN` with `UNLINK` (what most recipes do). Another process sends a PING again and again; the stall is the longest
that it waited.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import report
from benchmarks.filled import cache_on, fill, plain_fill
from flask_rcache import CacheType
from tests.processes import ROOT
from tests.servers import Server, find_binary

_GOES = CacheType("goes", ttl=86_400, l1_ttl=0)
_STAYS = CacheType("stays", ttl=86_400, l1_ttl=0)
_PREFIX = "flask_cache_"


def ping(port: int) -> None:
    """Send PING until standard input ends; print the longest wait in seconds."""
    longest = 0.0
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        print("ready", flush=True)
        end = time.monotonic() + 600
        import select

        while time.monotonic() < end and not select.select([sys.stdin], [], [], 0)[0]:
            began = time.perf_counter()
            connection.sendall(b"PING\r\n")
            connection.recv(64)
            longest = max(longest, time.perf_counter() - began)
            time.sleep(0.0005)
    print(longest, flush=True)


def timed(server: Server, remove: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds that it took, and that the server answered nobody."""
    command = [sys.executable, "-m", "benchmarks.invalidation", "--ping", str(server.port)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as pinger:
        assert pinger.stdout
        assert pinger.stdin
        pinger.stdout.readline()
        time.sleep(0.2)
        began = time.perf_counter()
        remove()
        took = time.perf_counter() - began
        time.sleep(0.2)
        pinger.stdin.close()
        stall = float(pinger.stdout.readline())
    return took * 1e3, stall * 1e3


def keys_and_del(client: Any) -> int:
    """As Flask-Caching's RedisCache does on `clear`."""
    keys = client.keys(f"{_PREFIX}*")
    return int(client.delete(*keys))


def scan_and_unlink(client: Any) -> int:
    """As recipes do that want no stall."""
    removed, batch = 0, []
    for key in client.scan_iter(match=f"{_PREFIX}*", count=1000):
        batch.append(key)
        if len(batch) == 1000:
            removed += client.unlink(*batch)
            batch.clear()
    return removed + (client.unlink(*batch) if batch else 0)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.invalidation", description=__doc__)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--share", type=float, default=0.1, help="of them that goes")
    parser.add_argument("--ping", type=int, metavar="PORT", help=argparse.SUPPRESS)
    report.options(parser)
    options = parser.parse_args(argv)
    if options.ping:
        ping(options.ping)
        return 0
    goes = int(options.entries * options.share)
    figures: dict[str, tuple[float, float]] = {}
    with Server(find_binary("any")) as server, server.client(socket_timeout=120) as client:
        # What stays is the same for all of them: other keys of the database, through which some have to walk.
        plain_fill(client, "other_", options.entries - goes)
        with cache_on(server, _GOES, _STAYS) as cache:
            fill(cache, _STAYS, 1000)
            fill(cache, _GOES, goes)
            cache.get(_GOES, "k0")
            figures["flask_rcache, invalidate_type"] = timed(server, lambda: cache.invalidate_type(_GOES))
            if cache.get(_GOES, "k0") is not None or cache.get(_STAYS, "k0") is None:
                raise AssertionError("another entry was invalidated, or one was not")
        for title, remove in (
            ("KEYS and DEL (Flask-Caching's clear)", keys_and_del),
            ("SCAN and UNLINK", scan_and_unlink),
        ):
            plain_fill(client, _PREFIX, goes)
            counts: list[int] = []
            figures[title] = timed(server, lambda remove=remove, counts=counts: counts.append(remove(client)))  # type: ignore[misc]
            if counts != [goes]:
                raise AssertionError(f"{title} removed {counts} of {goes} entries")
        binary = str(server.binary)
    found = report.Report(
        name="invalidation",
        title=f"Removing {goes:,} entries from a database of {options.entries:,} keys",
        command="python -m benchmarks.invalidation",
        method=f"Values of 100 bytes; the stall is the longest that a PING of another process took; {binary}.",
        columns=("", "ms", "stall ms"),
        rows=[(title, f"{took:,.2f}", f"{stall:,.2f}") for title, (took, stall) in figures.items()],
        bars=[
            report.Bar(title, took, "ours" if "rcache" in title else "other") for title, (took, _) in figures.items()
        ],
        unit="ms",
        logarithmic=True,
    )
    report.show(found, publish=options.publish)
    return 0


if __name__ == "__main__":
    sys.exit(main())
