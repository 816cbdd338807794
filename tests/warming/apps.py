"""An app whose workers warm: each run of a task adds a line to a file, with the process that ran it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from flask import Flask

from flask_rcache import CacheType, RCache, cache_response, cached


def log(line: str) -> None:
    with Path(os.environ["WARMING_LOG"]).open("a") as file:
        file.write(f"{line} {os.getpid()} {time.monotonic():.3f}\n")


def create_app() -> Flask:
    app = Flask("warmed")
    app.config.update(TRUSTED_HOSTS=["127.0.0.1", "localhost"], RCACHE_WARMING_URL="http://127.0.0.1")
    rcache = RCache(app)
    every = float(os.environ.get("WARMING_EVERY", "300"))

    @cached(CacheType.ANALYTICS)
    def revenue() -> int:
        log("revenue")
        return 42

    @app.get("/page/<int:number>")
    @cache_response(CacheType.PRODUCT)
    def page(number: int) -> str:
        log(f"page-{number}")
        return str(number)

    @app.get("/pid")
    def pid() -> str:
        return str(os.getpid())

    def quick() -> None:
        log("quick")
        revenue()

    def slow() -> None:
        log("slow-begins")
        time.sleep(float(os.environ.get("WARMING_SLOW", "0")))
        log("slow-ends")

    rcache.warming.register_task("quick", quick, every=every)
    rcache.warming.register_task("slow", slow, every=every)
    rcache.warming.register_view("page", arguments=[{"number": 1}, {"number": 2}], every=every)
    return app
