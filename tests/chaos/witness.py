"""A witness: reads through a cache of its own all the time, and writes down when it last saw what.

Under gunicorn (`tests.chaos.witness:create_app()`) it is another process than the one that invalidates; `ask` sends it
an act. Every reading of the clock is CLOCK_MONOTONIC, which the processes of one machine share.
"""

from __future__ import annotations

import json
import threading
import time
from typing import Any
from urllib.parse import urlencode

from flask import Flask, request

from flask_rcache import CacheManager, CacheType
from flask_rcache.config.settings import load_settings
from flask_rcache.extension import store_of
from tests.servers import Gunicorn

#: What is invalidated before the server dies, while it is away, and not at all.
NAMES = ("before", "during", "kept")
HELD = {name: CacheType(name, ttl=600) for name in NAMES}
EXACT = {name: held.replace(l1_ttl=0) for name, held in HELD.items()}
#: An entry that is there, and one whose load is under way all the time.
KEYS = ("there", "late")
#: Seconds a memory tier may go on with what it holds (RCACHE_L1_TTL).
HOLD = 2.0


class Witness:
    """One cache and a thread that reads it, through the memory tier and without it in turn."""

    def __init__(self) -> None:
        self._cache: CacheManager | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._loads: list[threading.Thread] = []
        self._go = threading.Event()
        self._rounds = 0
        self._seen: dict[str, float] = {}
        self._away_since = 0.0
        self._failure = ""

    @property
    def cache(self) -> CacheManager:
        """The cache that it reads."""
        assert self._cache is not None
        return self._cache

    def open(self, url: str, on_failover: str = "cold") -> None:
        """Begin to read a store."""
        self.close()
        config = {"RCACHE_URL": url, "RCACHE_TIMEOUT": 1, "RCACHE_L1_TTL": HOLD, "RCACHE_ON_FAILOVER": on_failover}
        if on_failover == "warm":  # what was acknowledged just before is sent again otherwise, and nothing comes back
            config["RCACHE_JOURNAL_KEEP"] = 0
        settings = load_settings(config, {})
        self._cache = CacheManager(settings, store_of(settings), types=HELD.values())
        self._rounds, self._seen, self._away_since, self._failure = 0, {}, 0.0, ""
        self._stop, self._go = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="witness", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let go of the store."""
        self._stop.set()
        self._go.set()
        for thread in (*self._loads, *([self._thread] if self._thread else ())):
            thread.join(30)
        self._thread, self._loads = None, []
        if self._cache is not None:
            self._cache.close()
            self._cache = None

    def _watch(self) -> None:
        try:
            while not self._stop.wait(0.002):
                was_available = self.cache.is_available
                for way, types in (("held", HELD), ("exact", EXACT)):
                    for name in NAMES:
                        for key in KEYS:
                            began = time.monotonic()
                            if self.cache.get(types[name], key) == "old":
                                self._seen[f"{name} {key} {way}"] = began
                if not self.cache.is_available:
                    self._away_since = self._away_since or time.monotonic()
                elif was_available:
                    self._rounds += 1
        except Exception as error:
            self._failure = repr(error)
            raise

    def load(self) -> None:
        """Load the old values; one of each type is loaded for as long as `go` was not called."""
        for name in NAMES:
            self.cache.fetch(HELD[name], "there", lambda: "old", tags=[f"{name}-tag"])
            begun = threading.Event()
            thread = threading.Thread(target=self._load_late, args=(name, begun), name="witness-late", daemon=True)
            self._loads.append(thread)
            thread.start()
            begun.wait(20)

    def _load_late(self, name: str, begun: threading.Event) -> None:
        def loader() -> str:
            begun.set()
            self._go.wait(60)
            return "old"

        self.cache.fetch(HELD[name], "late", loader, tags=[f"{name}-tag"])

    def go(self) -> None:
        """Let the loads under way end, and wait for them."""
        self._go.set()
        for thread in self._loads:
            thread.join(30)

    def fetch(self, name: str) -> str:
        """What a reader gets who may load."""
        return self.cache.fetch(EXACT[name], "there", lambda: "new")

    def report(self) -> dict[str, Any]:
        """What it has seen so far.

        Returns:
            `available` now; `rounds` of reading with the store at hand; `seen`: when the last read began that gave the
            old value, by type, key and way; `away_since`: when it first noticed that the store is not to be used.
        """
        assert not self._failure, self._failure
        return {
            "available": self.cache.is_available,
            "rounds": self._rounds,
            "seen": self._seen.copy(),
            "away_since": self._away_since,
        }


def create_app() -> Flask:
    """Make the application: every public method of a witness under its name."""
    app, witness = Flask(__name__), Witness()

    @app.get("/<any(open, close, load, go, fetch, report):act>")
    def do(act: str) -> dict[str, Any]:
        return {"answer": getattr(witness, act)(**json.loads(request.args["with"]))}

    return app


def ask(web: Gunicorn, act: str, **arguments: Any) -> Any:
    """Have the witness in another process do something; its answer."""
    status, _, body = web.get(f"/{act}?{urlencode({'with': json.dumps(arguments)})}", timeout=60)
    assert status == 200, web.log()
    return json.loads(body)["answer"]
