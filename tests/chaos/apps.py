"""The application that is made ill, soaked and shut down: `tests.chaos.apps:create_app()`, under a real server.

Every response says which process made it (`X-Pid`) and how many seconds loaders took of it (`X-Loaded`). Every run of a
loader is a line in a file of the directory that CHAOS_DIRECTORY names; a file beside it makes loaders slow.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import NamedTuple

from flask import Flask, Response, g, jsonify, request

from flask_rcache import CacheType, RCache, cache_response, cached, current_cache, invalidate_cache_type

#: Kept in the memory tier, as types are by default.
PAGE = CacheType("page", ttl=300)
#: Never kept in a process: a hit is a hit in Redis.
SHARED = CacheType("shared", ttl=300, l1_ttl=0)
#: Fresh for a moment, and servable for long.
AGED = CacheType("aged", ttl=1, stale_while_revalidate=300)
#: After so many seconds it is stale.
STALE_AFTER = 1.2
#: So short that its entries come and go.
BRIEF = CacheType("brief", ttl=1)
PART = CacheType("part", ttl=60, l1_ttl=0)

PARTS = 5


class Run(NamedTuple):
    """One run of a loader, and when it began (`time.monotonic()`)."""

    pid: int
    key: str
    began: float


class Board:
    """What test and application tell each other."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def ran(self, key: str) -> None:
        """A loader has begun to run in this process."""
        descriptor = os.open(self.directory / "runs", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, f"{os.getpid()} {key} {time.monotonic()}\n".encode())
        os.close(descriptor)

    def runs(self, key: str = "") -> list[Run]:
        """All runs so far, or those for one key."""
        path = self.directory / "runs"
        lines = path.read_text().splitlines() if path.exists() else []
        found = [Run(int(pid), name, float(began)) for pid, name, began in map(str.split, lines)]
        return [run for run in found if key in ("", run.key)]

    @property
    def value(self) -> str:
        """What the page `/value` is made of."""
        return (self.directory / "value").read_text()

    @value.setter
    def value(self, text: str) -> None:
        draft = self.directory / f"value-{os.getpid()}"
        draft.write_text(text)
        draft.rename(self.directory / "value")

    def slow_down(self, seconds: float) -> None:
        """Loads that begin from now on take so long."""
        (self.directory / "seconds").write_text(str(seconds))

    @property
    def seconds(self) -> float:
        """How long a load takes that begins now."""
        path = self.directory / "seconds"
        return float(path.read_text()) if path.exists() else float(os.environ.get("CHAOS_LOAD", "0.02"))


def create_app() -> Flask:
    """Make the application; the store comes from the environment."""
    board = Board(Path(os.environ["CHAOS_DIRECTORY"]))
    app = Flask(__name__)
    RCache(app, types=[PAGE, SHARED, AGED, BRIEF, PART])

    @app.after_request
    def sign(response: Response) -> Response:
        response.headers["X-Pid"] = str(os.getpid())
        response.headers["X-Loaded"] = f"{g.get('loaded', 0.0):.6f}"
        return response

    @app.get("/plain")
    def plain() -> str:
        return "plain"

    _add_pages(app, board)
    _add_work(app, board)
    _add_traffic(app)
    return app


def _load(board: Board, key: str, seconds: float | None = None) -> str:
    """Be a loader; what it takes is no time that the cache added."""
    began = time.monotonic()
    board.ran(key)
    time.sleep(board.seconds if seconds is None else seconds)
    g.loaded = g.get("loaded", 0.0) + time.monotonic() - began
    return f"{key} by {os.getpid()}"


def _add_pages(app: Flask, board: Board) -> None:
    """One page of each type."""

    @app.get("/page/<name>")
    @cache_response(PAGE, tags=lambda name: [f"page-{name}"])
    def page(name: str) -> str:
        return _load(board, f"page/{name}")

    @app.get("/shared/<name>")
    @cache_response(SHARED)
    def shared(name: str) -> str:
        return _load(board, f"shared/{name}")

    @app.get("/aged/<name>")
    @cache_response(AGED)
    def aged(name: str) -> str:
        return _load(board, f"aged/{name}")

    @app.get("/aged-value/<name>")
    def aged_value(name: str) -> str:
        return current_cache.fetch(AGED, name, lambda: _load(board, f"aged-value/{name}"))

    @app.get("/value")
    @cache_response(PAGE, tags=["value"])
    def value() -> str:
        return board.value

    @app.post("/value/<text>")
    def write(text: str) -> str:
        board.value = text
        current_cache.invalidate_tags("value")
        return text

    @app.post("/invalidate/<tag>")
    def invalidate(tag: str) -> str:
        return str(current_cache.invalidate_tags(tag))


def _add_work(app: Flask, board: Board) -> None:
    """Requests that use the cache many times: nineteen round trips when nothing is there."""

    @app.get("/work/<name>")
    @cache_response(SHARED)
    def work(name: str) -> str:
        parts = [
            current_cache.fetch(PART, f"{name}-{part}", lambda: _load(board, "part", 0.002)) for part in range(PARTS)
        ]
        current_cache.invalidate_tags(f"work-{name}")
        return " ".join(parts)

    @app.get("/async-work/<name>")
    @cache_response(SHARED)
    async def async_work(name: str) -> str:
        async def load() -> str:
            began = time.monotonic()
            await asyncio.sleep(0.002)
            g.loaded = g.get("loaded", 0.0) + time.monotonic() - began
            return "part"

        parts = [await current_cache.afetch(PART, f"{name}-a{part}", load) for part in range(PARTS)]
        current_cache.invalidate_tags(f"work-{name}")
        return " ".join(parts)


def _add_traffic(app: Flask) -> None:
    """What a soak uses beside: values of every kind, failures, variants, invalidations of every kind."""

    @cached(BRIEF, tags=["brief"])
    def computed(number: int) -> dict[str, int]:
        return {"number": number, "square": number * number}

    @app.get("/computed/<int:number>")
    def show(number: int) -> Response:
        return jsonify(computed(number))

    @app.get("/many/<int:first>")
    def many(first: int) -> Response:
        keys = [f"many-{number}" for number in range(first, first + 10)]
        return jsonify(current_cache.fetch_many(BRIEF, keys, lambda missing: dict.fromkeys(missing, "x" * 500)))

    @app.get("/fails/<int:number>")
    @cache_response(BRIEF)
    def fails(number: int) -> str:
        raise RuntimeError("the database is away")

    @app.get("/uncacheable/<int:number>")
    @cache_response(BRIEF)
    def uncacheable(number: int) -> Response:
        return Response("for you", headers={"Set-Cookie": "a=b"})

    @app.get("/varies/<int:number>")
    @cache_response(BRIEF, vary=["Accept-Language"])
    def varies(number: int) -> str:
        return f"{number} in {request.accept_languages}"

    @app.post("/set/<int:number>")
    def set_value(number: int) -> str:
        current_cache.set(BRIEF, f"many-{number}", "y" * 500, tags=["brief"])
        return "set"

    @app.post("/delete/<int:number>")
    def delete(number: int) -> str:
        return str(current_cache.delete(BRIEF, f"many-{number}"))

    @app.post("/clear/<what>")
    def clear(what: str) -> str:
        if what == "pattern":
            return str(current_cache.invalidate_pattern("brief:many-1*"))
        if what == "type":
            return str(invalidate_cache_type(BRIEF))
        return str(current_cache.clear_all())
