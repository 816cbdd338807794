"""Where the time of a hit in Redis goes: its steps, each by itself, in turns.

`python -m benchmarks.redis_hit` shows for each step how long it takes and how much CPU time of this process that is;
the difference is waiting for the server. The last rows are what the server says that it needs for a command (`INFO
commandstats`), without reading it from the network and answering.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import hiredis

from benchmarks import report
from benchmarks.machine import choose_cores, pin
from benchmarks.rows import ROWS, Row
from tests.servers import Server, find_binary

_GET = "GET of the body, raw socket"
_THREE = "the three commands of a hit, raw socket"
_LOOKUP = "the store's lookup"
_VIEWS = {"bare": "bare view", "raw": "bare view + GET, raw socket", "memory": "hit in memory", "redis": "hit in Redis"}
_COMMANDS = ("get", "getex", "zmscore", "time")


def _asker(port: int, payload: bytes, replies: int) -> Callable[[], object]:
    """Sends a payload on a socket of its own and reads the replies, with nothing around it."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    nothing = object()
    reader: Any = hiredis.Reader(notEnoughData=nothing)

    def ask() -> None:
        connection.sendall(payload)
        for _ in range(replies):
            while reader.gets() is nothing:
                reader.feed(connection.recv(65536))

    return ask


def _steps(server: Server, rows: Mapping[str, Row]) -> dict[str, Callable[[], object]]:
    store: Any = rows["redis"].app.extensions["rcache"].engine.store
    reader: Any = getattr(store, "redis", store)._reader
    key, query = next(iter(reader._queries.items()))
    get: Any = hiredis.pack_command(("GET", "bench-raw"))  # type: ignore[arg-type]
    return {
        _GET: _asker(server.port, get, 1),
        _THREE: _asker(server.port, query.payload, 3),
        _LOOKUP: lambda: reader.read(key, query.tags),
        **{title: rows[name].call for name, title in _VIEWS.items()},
    }


def _measure(steps: Mapping[str, Callable[[], object]], rounds: int, calls: int) -> dict[str, tuple[float, float]]:
    """Microseconds that each step takes, and of CPU time: medians of the rounds."""
    times: dict[str, list[tuple[float, float]]] = {title: [] for title in steps}
    for number in range(rounds + 1):
        for title, call in steps.items():
            began, used = time.perf_counter(), time.thread_time()
            for _ in range(calls):
                call()
            figures = (time.perf_counter() - began, time.thread_time() - used)
            if number:  # the first warms up
                times[title].append((figures[0] / calls * 1e6, figures[1] / calls * 1e6))
    return {
        title: (statistics.median(each[0] for each in found), statistics.median(each[1] for each in found))
        for title, found in times.items()
    }


def _of_server(client: Any) -> list[tuple[str, str, str]]:
    said = client.info("commandstats")
    return [
        (f"the server: {name.upper()}", f"{said[f'cmdstat_{name}']['usec_per_call']:.1f}", "") for name in _COMMANDS
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.redis_hit", description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--calls", type=int, default=200, help="calls of each step in a round")
    report.options(parser)
    options = parser.parse_args(argv)
    cores = choose_cores()
    with Server(find_binary("any")) as server:
        pin(cores, server_pid=server.pid)
        rows = {name: ROWS[name](server) for name in _VIEWS}
        try:
            for row in rows.values():
                row.verify()
            client: Any = server.client()
            client.config_resetstat()
            found = _measure(_steps(server, rows), options.rounds, options.calls)
            table = [(title, f"{took:.1f}", f"{used:.1f}") for title, (took, used) in found.items()]
            table += _of_server(client)
        finally:
            for row in rows.values():
                row.close()
    report.show(
        report.Report(
            name="redis_hit",
            title="Where the time of a hit in Redis goes",
            command="python -m benchmarks.redis_hit",
            method=(
                f"A response of 2 KB; medians of {options.rounds} interleaved rounds of {options.calls} calls; "
                f"{server.binary}, {cores.title}."
            ),
            columns=("", "µs", "of it CPU time of the process"),
            rows=table,
            bars=(),
            unit="µs",
        ),
        publish=options.publish,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
