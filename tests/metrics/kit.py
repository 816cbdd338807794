"""An app with a cache, and what a scrape of it says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from flask_rcache import CacheManager, RCache

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


@contextmanager
def cache(url: str = "memory://", **config: Any) -> Iterator[CacheManager]:
    """The manager of an app of its own, closed at the end."""
    flask_app = Flask("metered")
    flask_app.config.update(TESTING=True, RCACHE_URL=url, **config)
    RCache(flask_app)
    manager: CacheManager = flask_app.extensions["rcache"]
    with flask_app.app_context():
        try:
            yield manager
        finally:
            manager.close()


def parsed(text: str) -> Series:
    """The samples of a text exposition, by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(registry: CollectorRegistry) -> Series:
    """What a scrape of a registry gives."""
    return parsed(generate_latest(registry).decode())


def value(series: Series, name: str, **labels: str) -> float | None:
    """One sample's value, if it is there."""
    return series.get((name, frozenset(labels.items())))
