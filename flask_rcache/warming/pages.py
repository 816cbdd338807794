"""Pages as a warming task: requests to the app itself, so that their answers are cached before anybody asks."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit
from weakref import WeakSet

from flask import Flask, current_app

from ..context import manager_of
from ..errors import WarmingError
from ..model.bounded import BoundedDict
from ..views.background import RELOADING

__all__ = ["Pages"]

logger: Final = logging.getLogger("flask_rcache")

_TTL: Final = re.compile(r"\bttl=(-?\d+)")
_DETAIL: Final = re.compile(r"\bdetail=\"?([A-Za-z0-9_:.\-]+)")


class Pages:
    """A task that requests pages."""

    __slots__ = ("_arguments", "_costs", "_every", "_headers", "_target")

    def __init__(
        self,
        target: str | Callable[[], Iterable[str]],
        arguments: Any,
        headers: tuple[Mapping[str, str], ...],
        every: float,
    ) -> None:
        self._target: Final = target
        self._arguments: Final = arguments
        self._headers: Final = headers
        self._every: Final = every
        #: Seconds that each URL took last.
        self._costs: Final[BoundedDict[str, float]] = BoundedDict(10_000)

    def __call__(self) -> None:
        """Request them, those that took longest first.

        Raises:
            WarmingError: one of them was not answered, or its answer is not cached; the others were requested.
        """
        app = current_app._get_current_object()  # type: ignore[attr-defined]  # a proxy's, which its type hides
        base = _base_url(app)
        failures: list[str] = []
        for url in sorted(self._urls(app, base), key=lambda url: -self._costs.get(url, 0.0)):
            began = time.monotonic()
            for headers in self._headers:
                failure = _warm(app, url, headers, self._every)
                if failure:
                    failures.append(f"{url}: {failure}")
            self._costs[url] = time.monotonic() - began
        if failures:
            more = f", and {len(failures) - 1} more" if len(failures) > 1 else ""
            raise WarmingError(f"{failures[0]}{more}")

    def _urls(self, app: Flask, base: str) -> list[str]:
        target = self._target
        if not isinstance(target, str):
            return [_absolute(url, base) for url in target()]
        if target.startswith("/") or "://" in target:
            return [_absolute(target, base)]
        parts = urlsplit(base)
        adapter = app.url_map.bind(parts.netloc, parts.path or "/", url_scheme=parts.scheme)
        given: Any = self._arguments() if callable(self._arguments) else self._arguments
        pages: Iterable[Mapping[str, Any]] = ({},) if given is None else given
        return [adapter.build(target, dict(values), force_external=True) for values in pages]


def _absolute(url: str, base: str) -> str:
    if not isinstance(url, str) or not (url.startswith("/") or "://" in url):
        raise WarmingError(f"{url!r:.200} is no URL: write /path, or with scheme and host")
    return url if "://" in url else base.rstrip("/") + url


def _base_url(app: Flask) -> str:
    """Where clients find the app: a page is cached for one scheme and host."""
    configured: str | None = manager_of(app).settings.warming_url
    if configured:
        return configured
    server = app.config.get("SERVER_NAME")
    if not server and app not in _warned:
        _warned.add(app)
        logger.warning(
            "[CACHE] pages are warmed for http://localhost: set RCACHE_WARMING_URL to the address that clients use, "
            "such as https://www.example.org"
        )
    root = app.config.get("APPLICATION_ROOT") or "/"
    return f"{app.config.get('PREFERRED_URL_SCHEME', 'http')}://{server or 'localhost'}{root.rstrip('/')}"


_warned: Final[WeakSet[Flask]] = WeakSet()


def _warm(app: Flask, url: str, headers: Mapping[str, str], every: float) -> str:
    """Request one page, and once more where its answer expires before the next run; why that was in vain."""
    status, answer = _request(app, url, headers, {})
    verdict = answer.get("X-Cache", "")
    left = _TTL.search(answer.get("Cache-Status", ""))
    if verdict in ("HIT", "STALE") and (left is None or int(left[1]) < every):
        status, answer = _request(app, url, {**headers, "Cache-Control": "no-cache"}, {RELOADING: True})
    if not status.startswith(("2", "3")):
        return f"answered {status}"
    if answer.get("X-Cache", "") in ("", "BYPASS"):
        detail = _DETAIL.search(answer.get("Cache-Status", ""))
        return f"is not cached{'' if detail is None else f' ({detail[1]})'}"
    return ""


def _request(
    app: Flask, url: str, headers: Mapping[str, str], environ: Mapping[str, Any]
) -> tuple[str, Mapping[str, str]]:
    from werkzeug.test import EnvironBuilder, run_wsgi_app

    parts = urlsplit(url)
    query = f"?{parts.query}" if parts.query else ""
    sent: dict[str, str] = {"User-Agent": "flask_rcache", **headers}
    builder = EnvironBuilder(
        path=(parts.path or "/") + query,
        base_url=f"{parts.scheme}://{parts.netloc}/",
        headers=list(sent.items()),
        environ_overrides=dict(environ),
    )
    try:
        body, status, answer = run_wsgi_app(app.wsgi_app, builder.get_environ(), buffered=True)
        close = getattr(body, "close", None)
        if close is not None:
            close()
    finally:
        builder.close()
    return status, dict(answer)
