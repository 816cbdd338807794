"""How many writes behind one process takes, and one consumer drains: `python -m benchmarks.writes`.

The writer of the queue does nothing, so that what is measured is the queue. Producer, consumer and server share this
machine's cores. The goal is 10,000 writes a second each way.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import threading
import time

from flask import Flask

from flask_rcache import CacheType, RCache, Write, current_cache
from flask_rcache.writes import Consumer, Progress
from tests.servers import Server, find_binary

_THING = CacheType("thing", ttl=600)
_VALUE = {"name": "x" * 80, "seats": 180}


def _app(url: str, batch: int) -> Flask:
    app = Flask("writes")
    app.config.update(RCACHE_URL=url, RCACHE_TIMEOUT=5.0, RCACHE_WRITE_LIMIT=10_000_000)
    RCache(app, types=[_THING]).writer("bench", batch=batch)(_save)
    return app


def _save(writes: list[Write]) -> None:
    """Take them, and do nothing."""


def many(url: str, writes: int, chunk: int) -> tuple[float, float]:
    """Writes a second that are taken, so many in one call; and those a second of this process's CPU time."""
    app = _app(url, 100)
    with app.app_context():
        current_cache.fresh()
        began, cpu = time.perf_counter(), time.process_time()
        for start in range(0, writes, chunk):
            items = [(number % 5_000, _VALUE) for number in range(start, min(start + chunk, writes))]
            current_cache.write_behind_many(_THING, items, queue="bench")
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        current_cache.close()
    return writes / seconds, writes / cpu


def single(url: str, writes: int, threads: int) -> float:
    """Writes a second that are taken one by one, by some threads of one process."""
    app = _app(url, 100)

    def work(first: int) -> None:
        with app.app_context():
            current_cache.fresh()
            for number in range(first, writes, threads):
                current_cache.write_behind(_THING, number % 5_000, _VALUE, queue="bench")

    running = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    began = time.perf_counter()
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    seconds = time.perf_counter() - began
    app.extensions["rcache"].close()
    return writes / seconds


def drained(url: str, batch: int) -> tuple[int, float, float]:
    """How many writes one consumer applies until the queue is empty, in how many seconds, and in how much CPU time."""
    app = _app(url, batch)
    engine = app.extensions["rcache"].engine
    consumer = Consumer(
        app, list(engine.writes.writers.values()), engine.store.queues, codec=engine.fetching.codec, attempts=5
    )
    began, cpu = time.perf_counter(), time.process_time()
    consumer.run(once=True)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    progress: Progress = consumer.progress
    app.extensions["rcache"].close()
    return progress.applied, seconds, cpu


def _stop_after(ended: threading.Event, consumer: Consumer) -> None:
    ended.wait()
    consumer.stop()


def _together(url: str, batch: int, ended: threading.Event) -> None:
    """A consumer in a process of its own, until it is told to end."""
    app = _app(url, batch)
    engine = app.extensions["rcache"].engine
    writers = list(engine.writes.writers.values())
    consumer = Consumer(app, writers, engine.store.queues, codec=engine.fetching.codec, attempts=5)
    threading.Thread(target=_stop_after, args=(ended, consumer), daemon=True).start()
    consumer.run()
    app.extensions["rcache"].close()


def together(server: Server, writes: int, chunk: int, batch: int) -> tuple[float, float]:
    """Writes a second that are taken while a consumer drains them, and those a second until all are applied."""
    context = multiprocessing.get_context("spawn")
    ended = context.Event()
    consumer = context.Process(target=_together, args=(server.url, batch, ended))
    consumer.start()
    app = _app(server.url, batch)
    (queues,) = app.extensions["rcache"].engine.store.queues
    with app.app_context():
        current_cache.fresh()
        while not queues.queue_state("bench").consumer:
            time.sleep(0.05)
    began = time.perf_counter()
    taken, _ = many(server.url, writes, chunk)
    while queues.queue_state("bench").length:
        time.sleep(0.01)
    applied = writes / (time.perf_counter() - began)
    ended.set()
    consumer.join(30)
    app.extensions["rcache"].close()
    return taken, applied


def main() -> int:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.writes", description=__doc__)
    parser.add_argument("--writes", type=int, default=50_000)
    parser.add_argument("--chunk", type=int, default=250, help="writes in one call of write_behind_many")
    parser.add_argument("--batch", type=int, default=500, help="writes that the writer is given at a time")
    parser.add_argument("--threads", type=int, default=4, help="threads that write one by one")
    options = parser.parse_args()
    with Server(find_binary("any")) as server:
        rate, of_cpu = many(server.url, options.writes, options.chunk)
        print(f"taken, {options.chunk} a call:  {rate:7,.0f} a second, {of_cpu:,.0f} of its CPU time")
        count, seconds, cpu = drained(server.url, options.batch)
        rate, of_cpu = count / seconds, count / cpu
        print(f"drained in batches of {options.batch}:       {rate:7,.0f} a second, {of_cpu:,.0f} of its CPU time")
        rate = single(server.url, options.writes // 5, options.threads)
        print(f"taken one by one:               {rate:7,.0f} a second, by {options.threads} threads of one process")
        drained(server.url, options.batch)
        taken, applied = together(server, options.writes, options.chunk, options.batch)
        print(f"both at the same time:          {taken:7,.0f} taken a second, {applied:,.0f} applied a second")
    return 0


if __name__ == "__main__":
    sys.exit(main())
