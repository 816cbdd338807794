"""The application of `test_15_processes`: it uses its cache while it is made, so before gunicorn forks."""

from __future__ import annotations

import os
import threading
from typing import Any

from flask import Flask

from flask_rcache import CacheManager, RCache
from tests.twenty.kit import KIND


def create_app() -> Flask:
    """Make the application; the store comes from the environment."""
    app = Flask(__name__)
    RCache(app, types=[KIND])
    cache: CacheManager = app.extensions["rcache"]
    cache.fetch(KIND, "k", lambda: "loaded before the fork")

    @app.get("/")
    def page() -> dict[str, object]:
        value = cache.get(KIND, "k")
        return {"pid": os.getpid(), "value": value, "sockets": _sockets(cache), "threads": threading.active_count()}

    return app


def _sockets(cache: CacheManager) -> list[int]:
    """The local ports of the connections that this process would use next."""
    store: Any = cache.store
    wire = getattr(store, "redis", store).wire
    return [line._socket.getsockname()[1] for line in tuple(wire._idle)]
