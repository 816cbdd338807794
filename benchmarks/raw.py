"""What a hit could cost at the least: commands on one kept redis-py Connection, no pool, no retries.

Compares the shapes that a hit may have, interleaved, for a 2 KB value. Run: `python -m benchmarks.raw`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
from redis.backoff import NoBackoff
from redis.connection import Connection, UnixDomainSocketConnection
from redis.retry import Retry

from benchmarks.machine import Cores, choose_cores, measure, pin
from tests.servers import Server, find_binary

VALUE = os.urandom(2048)
STAMPS = b"bench~stamps"
ENTRY = b"bench:entry"
MEMBERS = (b"dashboard", b"*", b"~epoch", b"~floor", b"~barrier")

Command = tuple[Any, ...]
GET: Command = (b"GET", ENTRY)
SHAPES: dict[str, tuple[Command, ...]] = {
    "GET": (GET,),
    "GET + ZMSCORE(4)": (GET, (b"ZMSCORE", STAMPS, *MEMBERS[:4])),
    "GET + ZMSCORE(5)": (GET, (b"ZMSCORE", STAMPS, *MEMBERS)),
    "GET + ZMSCORE(5) + TIME": (GET, (b"ZMSCORE", STAMPS, *MEMBERS), (b"TIME",)),
    "GET + PTTL + ZMSCORE(5)": (GET, (b"PTTL", ENTRY), (b"ZMSCORE", STAMPS, *MEMBERS)),
}


def tail_caller(connection: Any, commands: Sequence[Command]) -> Callable[[], None]:
    """Like `shape_caller`, with all but the first command packed once and for all."""
    tail = b"".join(hiredis.pack_command(command) for command in commands[1:])
    first = commands[0]
    pack, send, read = hiredis.pack_command, connection.send_packed_command, connection.read_response
    replies = range(len(commands))

    def call() -> None:
        send((pack(first) + tail,), check_health=False)
        for _ in replies:
            read()

    return call


def connect(server: Server, *, unix: bool) -> Any:
    """Open one connection, set up as a production hit path would have it."""
    options: dict[str, Any] = {"socket_timeout": 5.0, "retry": Retry(NoBackoff(), 0)}
    place: dict[str, Any] = {"path": str(server.socket_path)}
    if not unix:
        place = {"host": "127.0.0.1", "port": server.port}
    kind: Any = UnixDomainSocketConnection if unix else Connection
    connection = kind(**place, **options)
    connection.connect()
    return connection


def shape_caller(connection: Any, commands: Sequence[Command]) -> Callable[[], None]:
    """Make the function that sends `commands` in one write and reads every reply."""
    pack = connection.pack_command if len(commands) == 1 else connection.pack_commands
    argument: Any = commands[0] if len(commands) == 1 else commands
    send, read = connection.send_packed_command, connection.read_response
    replies = range(len(commands))

    def call_one() -> None:
        send(pack(*argument), check_health=False)
        read()

    def call_many() -> None:
        send(pack(argument), check_health=False)
        for _ in replies:
            read()

    return call_one if len(commands) == 1 else call_many


def run(server: Server, cores: Cores, *, rounds: int, calls: int, unix: bool) -> str:
    """Measure every shape against `server` and lay the figures out as a table."""
    connection = connect(server, unix=unix)
    try:
        client = server.client()
        client.set(ENTRY, VALUE, ex=3600)
        client.zadd(STAMPS, {member: index + 1.0 for index, member in enumerate(MEMBERS)})
        callers = {name: shape_caller(connection, commands) for name, commands in SHAPES.items()}
        for name in ("GET + ZMSCORE(5)", "GET + ZMSCORE(5) + TIME"):
            callers[f"{name}, tail packed once"] = tail_caller(connection, SHAPES[name])
        times = measure(callers, rounds=rounds, calls=calls)
    finally:
        connection.disconnect()
    floor = statistics.median(times["GET"])
    lines = [
        f"{server.binary}, {'unix socket' if unix else 'loopback TCP'}, {cores.title}",
        f"median of {rounds} rounds × {calls} calls",
        f"{'shape':42} {'µs/call':>9} {'over GET':>9} {'× GET':>6}   {'min':>7} {'max':>7}",
    ]
    for name, figures in times.items():
        middle = statistics.median(figures)
        lines.append(
            f"{name:42} {middle:9.1f} {middle - floor:+9.1f} {middle / floor:6.2f}   "
            f"{min(figures):7.1f} {max(figures):7.1f}"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.raw", description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--server", choices=("redis", "valkey"), default="redis")
    parser.add_argument("--unix", action="store_true", help="use the unix socket instead of TCP")
    parser.add_argument("--same-core", action="store_true", help="pin the server to the client's core")
    options = parser.parse_args(argv)
    cores = choose_cores(same=options.same_core)
    with Server(find_binary(options.server)) as server:
        pin(cores, server_pid=server.pid)
        print(run(server, cores, rounds=options.rounds, calls=options.calls, unix=options.unix))
    return 0


if __name__ == "__main__":
    sys.exit(main())
