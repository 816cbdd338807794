"""A database, and the consumers of its queue in processes of their own; and an app that writes into that queue."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

from flask import Flask

from flask_rcache import MISSING, CacheType, RCache, current_cache
from tests.processes import ROOT
from tests.writes import apps

__all__ = ["THING", "Plant", "behind", "check", "producer"]

THING = CacheType("thing", ttl=600, l1_ttl=0)


def behind(key: Any, value: Any, **options: Any) -> str:
    return current_cache.write_behind(THING, key, value, queue="orders", **options)


class Plant:
    """A database, and consumers of its queue in processes of their own."""

    def __init__(self, url: str, directory: Path, **env: str) -> None:
        self.env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "RCACHE_URL": url,
            "WRITES_DB": str(directory / "db"),
            "FLASK_APP": "tests.writes.apps:create_app()",
            **env,
        }
        os.environ["WRITES_DB"] = self.env["WRITES_DB"]
        apps.make_tables()
        self.log = (directory / "log").open("ab")
        self.running: list[subprocess.Popen[bytes]] = []

    def consumer(self, *args: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "flask", "cache", "writer", *args]
        process = subprocess.Popen(command, env=self.env, stdout=self.log, stderr=self.log)
        self.running.append(process)
        return process

    def close(self) -> None:
        for process in self.running:
            process.kill()
            process.wait()
        self.log.close()

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.env["WRITES_DB"], timeout=30)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()


def producer(url: str) -> Flask:
    app = Flask("producer")
    app.config.update(RCACHE_URL=url, RCACHE_TIMEOUT=2.0)
    RCache(app, types=[THING]).writer("orders")(apps.apply)
    return app


def check(plant: Plant, last: dict[str, str], total: int) -> None:
    """Nothing lost, nothing applied twice, the last value of each key at the source and in the cache."""
    found = dict(plant.query("SELECT key, value FROM source"))
    assert found == last
    ids = plant.query("SELECT COUNT(DISTINCT id) FROM applied")
    assert ids == [(total,)]
    assert plant.query("SELECT id FROM applied WHERE fresh = 1 GROUP BY id HAVING COUNT(*) > 1") == []
    for key, value in last.items():
        assert str(current_cache.get(THING, int(key), MISSING)) == value
