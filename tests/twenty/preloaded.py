"""The application of `test_15_processes`: it uses its cache while it is made, so before gunicorn forks."""

from __future__ import annotations

import os
import threading
from pathlib import Path

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
        return {"pid": os.getpid(), "value": value, "sockets": _sockets(), "threads": threading.active_count()}

    return app


def _sockets() -> list[int]:
    """The connections to the store that this process has open, by the inodes of their sockets."""
    store = f":{int(os.environ['RCACHE_URL'].rpartition(':')[2].split('/')[0]):04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {line[9] for line in lines if line[2].endswith(store)}
    links = [os.readlink(entry) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    return [int(link[8:-1]) for link in links if link.startswith("socket:") and link[8:-1] in inodes]
