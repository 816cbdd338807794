"""The application that the front is tried on under real servers: `tests.front.site:create_app()`."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from types import MappingProxyType

from flask import Flask, Response

from flask_rcache import CacheType, RCache, cache_response

PAGE = CacheType("page", ttl=600)


def create_app(config: Mapping[str, object] = MappingProxyType({})) -> Flask:
    """A page, and how often a request was answered without the front.

    Args:
        config: of the app.
    """
    app = Flask("front")
    app.config.update(config)
    ran = itertools.count(1)
    seen = [0]

    @app.before_request
    def before() -> None:
        seen[0] = next(ran)

    @app.after_request
    def after(response: Response) -> Response:
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    RCache(app)

    @app.get("/page")
    @cache_response(PAGE)
    def page() -> str:
        return "x" * 3000

    @app.get("/ran")
    def count() -> str:
        return str(seen[0])

    return app
