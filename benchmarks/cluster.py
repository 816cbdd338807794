"""A cluster of three nodes beside one server, in turns: hits, invalidations, and what an idle process costs.

`python -m benchmarks.cluster` answers GETs of 64 pages, which lie on all shards, in one process; every round has both
stores. The figures are medians, the ratio is that of the rounds pair by pair. Commands are those that came over the
wire, by ``INFO commandstats`` of all nodes; a round is one write to each node, before any reply is read.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from flask import Flask, Response
from werkzeug.test import EnvironBuilder

from benchmarks.rows import BODY
from flask_rcache import CacheType, RCache, cache_response
from tests.clusters import Cluster
from tests.servers import Server, find_binary

_PAGES = 64
_SENT = ("ping", "evalsha", "eval", "get", "mget", "zmscore", "time", "cluster|slots")


def _application(url: str, l1_ttl: float) -> tuple[Flask, Callable[[], None]]:
    """An application on a store, and what asks it once for each page."""
    app = Flask("pages")
    app.config.update(TESTING=True, RCACHE_URL=url, RCACHE_L1_TTL=l1_ttl)
    RCache(app)

    @app.get("/<int:number>")
    @cache_response(CacheType.DASHBOARD, tags=["pages"])
    def page(number: int) -> Response:
        return Response(BODY, mimetype="application/octet-stream")

    environs = [
        EnvironBuilder(path=f"/{number}", base_url="http://127.0.0.1/").get_environ() for number in range(_PAGES)
    ]

    def ask() -> None:
        for environ in environs:
            answer = app.wsgi_app(environ.copy(), lambda *_: lambda data: None)
            if b"".join(answer) != BODY:
                raise AssertionError("another body")
            close = getattr(answer, "close", None)
            if close is not None:
                close()

    return app, ask


def _timed(ask: Callable[[], None]) -> float:
    began = time.perf_counter()
    ask()
    return (time.perf_counter() - began) / _PAGES * 1e6


def _sent(cluster: Cluster) -> dict[str, int]:
    found: dict[str, int] = {}
    for node in cluster.nodes:
        stats: Any = node.client().info("commandstats")
        for name, each in stats.items():
            found[name.removeprefix("cmdstat_")] = found.get(name.removeprefix("cmdstat_"), 0) + each["calls"]
    return found


def _reset(cluster: Cluster) -> None:
    for node in cluster.nodes:
        node.client().config_resetstat()


def _server_cpu(servers: Sequence[Server], ask: Callable[[], None], *, turns: int) -> tuple[float, float]:
    """Microseconds of the servers' own time that a hit takes, and the largest part of it that fell to one server."""

    def used() -> list[float]:
        infos: list[Any] = [server.client().info("cpu") for server in servers]
        return [info["used_cpu_user"] + info["used_cpu_sys"] for info in infos]

    before = used()
    for _ in range(turns):
        ask()
    took = [after - was for was, after in zip(before, used(), strict=True)]
    return sum(took) / (turns * _PAGES) * 1e6, max(took) / sum(took)


def main() -> int:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=10.0, help="for which an idle process is watched")
    options = parser.parse_args()
    binary = find_binary("any")
    with Server(binary) as server, Cluster(binary) as cluster:
        apps = {"one server": _application(server.url, 0), "cluster": _application(cluster.url, 0)}
        for _, ask in apps.values():
            for _ in range(3):
                ask()
        times: dict[str, list[float]] = {name: [] for name in apps}
        for _ in range(options.rounds):
            for name, (_, ask) in apps.items():
                times[name].append(_timed(ask))
        one, three = times["one server"], times["cluster"]
        ratio = statistics.median(a / b for a, b in zip(one, three, strict=True))
        print(f"{binary}, 2 KB pages in Redis, {options.rounds} rounds of {_PAGES}")
        print(f"one server {statistics.median(one):6.1f} µs a hit, cluster of three {statistics.median(three):6.1f} µs")
        print(f"hits a second of one process: {ratio:.2f} × one server")
        for name, servers in (("one server", [server]), ("cluster of three", cluster.nodes)):
            micros, most = _server_cpu(servers, apps["cluster" if servers is cluster.nodes else name][1], turns=30)
            print(
                f"{name}: {micros:.1f} µs of the servers' time a hit, {most:.0%} of it on the busiest: with clients "
                f"enough {1e6 / (micros * most):,.0f} hits a second"
            )
        app, _ = apps["cluster"]
        cache = app.extensions["rcache"]
        store, figures = cache.engine.store, []
        shared = getattr(store, "nodes", None) or store.redis.nodes
        rounds, before = shared.rounds, 0
        _reset(cluster)
        for _ in range(50):
            began = time.perf_counter()
            cache.invalidate_tags("pages")
            figures.append((time.perf_counter() - began) * 1e6)
        sent = _sent(cluster).get("evalsha", 0)
        print(
            f"invalidating a tag: {statistics.median(figures):.0f} µs, {(shared.rounds - rounds - before) / 50:.1f} "
            f"rounds and {sent / 50:.1f} scripts on 16 shards"
        )
        time.sleep(1.0)
        _reset(cluster)
        began, cpu = time.monotonic(), time.process_time()
        time.sleep(options.seconds)
        seconds, cpu = time.monotonic() - began, time.process_time() - cpu
        calls = _sent(cluster)
        print(
            f"idle (two applications): {sum(calls.get(name, 0) for name in _SENT[:1] + _SENT[1:3]) / seconds:.1f} "
            f"commands a second on the cluster, {cpu / seconds:.2%} of a core"
        )
        for app, _ in apps.values():
            app.extensions["rcache"].close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
