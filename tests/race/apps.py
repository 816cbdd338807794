"""The application that stampedes and crashes are tried on, under a real gunicorn: `tests.race.apps:create_app()`.

Every run of a view is a line in the file `runs`, whatever becomes of the process. Files in the same directory, named in
the environment as RACE_DIRECTORY, arm what goes wrong; see `Board`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

from flask import Flask, Response

from flask_rcache import CacheType, RCache, cache_response, current_cache

LOAD_SECONDS = 1.0


class Board:
    """What test and application tell each other: runs of views, and what is armed.

    Armed may be: `fail` (views raise), `hang` (a view that starts now runs for a minute), `die` (the process is killed
    once, between a view's end and its commit).
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def ran(self) -> None:
        """A view has begun to run in this process."""
        descriptor = os.open(self.directory / "runs", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, b"%d\n" % os.getpid())
        os.close(descriptor)

    @property
    def runs(self) -> list[int]:
        """The process ids of all runs so far."""
        path = self.directory / "runs"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def arm(self, what: str) -> None:
        """Let it go wrong from now on."""
        (self.directory / what).touch()

    def disarm(self, what: str) -> bool:
        """Let it go well again; whether it was armed. Of several processes, one hears so."""
        try:
            (self.directory / what).unlink()
        except FileNotFoundError:
            return False
        return True

    def armed(self, what: str) -> bool:
        """Whether it goes wrong."""
        return (self.directory / what).exists()


def create_app() -> Flask:
    """Make the application; the store comes from the environment."""
    board = Board(Path(os.environ["RACE_DIRECTORY"]))
    app = Flask(__name__)
    # 200 threads wake at once on a small machine: the store may well answer later than in 0.25 s.
    app.config.update(RCACHE_TIMEOUT=5)
    RCache(app)

    def load() -> str:
        board.ran()
        failing = board.armed("fail")
        time.sleep(60 if board.armed("hang") else LOAD_SECONDS)
        if failing:
            raise RuntimeError("the database is away")
        return f"loaded by {os.getpid()}"

    @app.get("/view")
    @cache_response(CacheType.DASHBOARD)
    def view() -> str:
        return load()

    @app.get("/async")
    @cache_response(CacheType.DASHBOARD)
    async def view_async() -> str:
        board.ran()
        failing = board.armed("fail")
        await asyncio.sleep(LOAD_SECONDS)
        if failing:
            raise RuntimeError("the database is away")
        return f"loaded by {os.getpid()}"

    @app.get("/fetch")
    def fetch() -> str:
        return current_cache.fetch(CacheType.QUERY, "report", load)

    @app.get("/pid")
    def pid() -> str:
        return str(os.getpid())

    @app.after_request
    def die(response: Response) -> Response:
        if board.disarm("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        return response

    return app
