"""Two hundred requests for one cold page at the same time, over four processes. `python -m benchmarks.stampede`.

The page takes 0.2 s to make. What counts is how often it is made, and when the last visitor has it.
"""

from __future__ import annotations

import argparse
import http.client
import statistics
import sys
import threading
import time
from collections.abc import Sequence

from benchmarks import report
from benchmarks.peers import NotInstalledError, dogpile_memory
from benchmarks.served import LOADS, SLOW
from tests.servers import Gunicorn, Server, find_binary

_LIBRARIES = ("no cache", "flask_rcache", "dogpile.cache", "flask-caching")


def crowd(port: int, path: str, *, visitors: int) -> float:
    """Let all of them ask at once; seconds until the last has its answer.

    Raises:
        RuntimeError: one of them got no page.
    """
    barrier, failures = threading.Barrier(visitors + 1), []

    def visit() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.connect()
            barrier.wait()
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                failures.append(f"status {answer.status}")
        except (OSError, http.client.HTTPException, threading.BrokenBarrierError) as error:
            failures.append(repr(error))
        finally:
            connection.close()

    threads = [threading.Thread(target=visit) for _ in range(visitors)]
    for thread in threads:
        thread.start()
    barrier.wait(timeout=60)
    began = time.monotonic()
    for thread in threads:
        thread.join()
    if failures:
        raise RuntimeError(f"{len(failures)} of {visitors} visitors got no page: {failures[0]}")
    return time.monotonic() - began


def main(argv: Sequence[str] | None = None) -> int:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stampede", description=__doc__)
    parser.add_argument("--visitors", type=int, default=200)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    report.options(parser)
    options = parser.parse_args(argv)
    rows, bars, skipped = [], [], []
    threads = -(-options.visitors // options.processes)
    with Server(find_binary("any")) as server, server.client() as client:
        for library in _LIBRARIES:
            try:
                if library == "dogpile.cache":
                    dogpile_memory(server)
            except NotInstalledError as error:
                skipped.append(f"{library}, since {error}")
                continue
            loads, seconds = [], []
            with Gunicorn(
                f"benchmarks.served:create_slow('{library}')",
                workers=options.processes,
                threads=threads,
                worker_class="gthread",
                env={"BENCH_REDIS": server.url},
            ) as web:
                web.get("/warm")
                for number in range(options.rounds):
                    client.delete(LOADS)
                    seconds.append(crowd(web.port, f"/page-{number}", visitors=options.visitors))
                    loads.append(int(client.get(LOADS) or 0))
            made, last = statistics.median(loads), statistics.median(seconds)
            rows.append((library, f"{made:g}", f"{last:.2f}"))
            kind = "ours" if library == "flask_rcache" else "floor" if library == "no cache" else "other"
            bars.append(report.Bar(library, made, kind))
        found = report.Report(
            name="stampede",
            title=f"{options.visitors} requests for one cold page: how often it is made",
            command="python -m benchmarks.stampede",
            method=(
                f"{options.processes} processes of gunicorn with {threads} threads, a page that takes {SLOW} s, "
                f"medians of {options.rounds} rounds; {server.binary}."
            ),
            columns=("", "loads", "last answer after s"),
            rows=rows,
            bars=bars,
            unit="loads",
            logarithmic=True,
            skipped=skipped,
        )
    report.show(found, publish=options.publish)
    return 0


if __name__ == "__main__":
    sys.exit(main())
