"""A small site with a dashboard, for the browser: run by gunicorn, in the tests and for the screenshots."""

from __future__ import annotations

import os
import time

from flask import Flask, request

from flask_rcache import CacheType, PartialFailure, RCache, Write, cache_response, current_cache
from tests.admin.tokens import SECRET

FLIGHTS = CacheType("flights", ttl=60, stale_while_revalidate=60)
WEATHER = CacheType("weather", ttl=900)
VIEWS = CacheType("views", ttl=600)

__all__ = ["FLIGHTS", "VIEWS", "WEATHER", "create_app", "create_shop"]


def create_app() -> Flask:
    """Make the site; `RCACHE_URL` says where its cache is, `SITE_LOAD` how many seconds a load takes."""
    app = Flask(__name__)
    app.config.update(RCACHE_ADMIN_JWT_KEY=SECRET, RCACHE_TIMEOUT=1.0)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    rcache = RCache(app, types=[FLIGHTS, WEATHER, VIEWS])
    app.extensions["site"] = rcache
    load = float(os.environ.get("SITE_LOAD", "0"))

    @app.get("/flights/<number>")
    @cache_response(FLIGHTS, tags=lambda number: [f"airline:{number[:2]}", "airport:JFK"])
    def flights(number: str) -> str:
        time.sleep(load * (1 + len(number) % 3))
        return f"{number} " * 200

    @app.get("/weather/<place>")
    @cache_response(WEATHER, tags=lambda place: [f"place:{place}"])
    def weather(place: str) -> str:
        time.sleep(load * (1 + int(request.args.get("slow", 0))))
        return f"{place} " * 400

    @app.get("/odd")
    def odd() -> str:
        """Store an entry with everything in its names that a page could take for markup."""
        current_cache.set("search", "a/b,c=d", "x", tags=["<b>bold</b>", "row:public.flights:7"])
        return "ok"

    return app


def create_shop() -> Flask:
    """The site with a queue of writes, whose consumer the visitor of `/apply` is, and with warming tasks."""
    app = create_app()
    rcache: RCache = app.extensions["site"]

    @rcache.writer("views")
    def save(writes: list[Write]) -> None:
        errors = {write.id: ValueError("no such page") for write in writes if write.key == "nowhere"}
        if errors:
            raise PartialFailure(errors)

    rcache.warming.register_task("flights", lambda: None)
    rcache.warming.register_task("weather", _no_weather, critical=True)

    @app.get("/view/<page>")
    def view(page: str) -> str:
        current_cache.write_behind(VIEWS, page, 1, queue="views")
        return "ok"

    @app.get("/apply")
    def apply() -> str:
        from flask_rcache.writes import Consumer

        engine = current_cache.engine
        writers = list(engine.writes.writers.values())
        attempts = int(request.args.get("attempts", 1))
        Consumer(app, writers, engine.store.queues, codec=engine.fetching.codec, attempts=attempts).run(once=True)
        return "ok"

    return app


def create_database() -> Flask:
    """The site with a database: visitors of `/landed/<place>` read it through the cache, those of `/land` write."""
    from sqlalchemy import create_engine, text
    from sqlalchemy.pool import StaticPool

    from flask_rcache.sql import SQLCache

    app = create_app()
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    sql = SQLCache(engine)
    sql.init_app(app)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE flight (id INTEGER PRIMARY KEY, place TEXT)"))

    @app.get("/landed/<place>")
    def landed(place: str) -> str:
        found = sql.fetch("SELECT id FROM flight WHERE place = :place ORDER BY id", {"place": place})
        return str(len(found))

    @app.get("/land")
    def land() -> str:
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO flight (place) VALUES ('here')"))
        return "ok"

    return app


def _no_weather() -> None:
    raise TimeoutError("the weather service does not answer")
