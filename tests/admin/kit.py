"""What the tests of the admin API share: an application, and a client that bears a token."""

from __future__ import annotations

from typing import Any

from flask import Flask
from werkzeug.test import TestResponse

from flask_rcache import CacheManager, cache_response
from tests.admin.tokens import SECRET, bearer
from tests.views.kit import PAGE, make_app, manager

PREFIX = "/api/cache"


class Admin:
    """An application and an administrator of it; without a token: `admin.call("GET", "/stats", headers={})`."""

    def __init__(self, app: Flask, prefix: str = PREFIX) -> None:
        self.flask = app
        self.prefix = prefix
        self.client = app.test_client(use_cookies=False)

    @property
    def cache(self) -> CacheManager:
        """The application's cache."""
        return manager(self.flask)

    def call(self, method: str, path: str, *, headers: dict[str, str] | None = None, **options: Any) -> TestResponse:
        """One call of the API, with a token unless other headers are given."""
        headers = bearer() if headers is None else headers
        return self.client.open(self.prefix + path, method=method, headers=headers, **options)

    def get(self, path: str, **options: Any) -> TestResponse:
        """A GET."""
        return self.call("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> TestResponse:
        """A POST, with a JSON body if there is one."""
        if body is not None:
            options["json"] = body
        return self.call("POST", path, **options)

    def fill(self, *ids: str, type: str = "search", tags: tuple[str, ...] = ()) -> None:
        """Store a value under each id."""
        for id in ids:
            assert self.cache.set(type, id, {"id": id}, tags=tags)

    def names(self, query: str = "") -> list[str]:
        """The stored keys that the API lists, sorted."""
        return sorted(entry["key"] for entry in self.get(f"/keys{query}").json["keys"])  # type: ignore[index]


def make_admin(url: str = "memory://", *, prefix: str = PREFIX, **config: Any) -> Admin:
    """An application with one cached page, `/page`, and an admin API that takes `tokens.SECRET`'s tokens."""
    config = {"RCACHE_ADMIN_JWT_KEY": SECRET, "RCACHE_ADMIN_URL_PREFIX": prefix, "RCACHE_TIMEOUT": 2.0, **config}
    app = make_app(url, **{name: value for name, value in config.items() if value is not None})

    @app.get("/page")
    @cache_response(PAGE)
    def page() -> str:
        return "a page"

    return Admin(app, prefix)
