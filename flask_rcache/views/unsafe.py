"""Unsafe methods: a write that succeeded makes the stored answers of its URL invalid.

Owns which decorated views a target belongs to. Which targets there are is ``http``'s to say, over RFC 9111 section 4.4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flask import Flask, Response
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RequestRedirect

from ..http import Target, unsafe_targets
from ..model.keys import key_tag, url_tag
from ..observed import raw_environ
from .bound import AppViews
from .identity import target_of
from .options import Options, options_of

__all__ = ["invalidate_unsafe"]


def invalidate_unsafe(app: Flask, ctx: Any, response: Response) -> None:
    """RFC 9111 section 4.4: a successful unsafe request invalidates its URL, and where the answer points."""
    request = ctx.request
    sent = tuple(response.get_wsgi_headers(raw_environ(request)))  # Location as it goes over the wire
    targets = unsafe_targets(target_of(request), sent, method=request.method, status=response.status_code)
    views = AppViews.of(app)
    keys: list[str] = []
    tags: list[str] = []
    for target in targets:
        for options in _decorated(app, ctx, target):
            view = views.view(options)
            keyed = view.keyed(target)
            keys.append(view.key_of(keyed))
            tags += (key_tag(keys[-1]), url_tag(keyed))
    if keys:
        views.manager.engine.invalidations.urls(tuple(dict.fromkeys(keys)), tuple(dict.fromkeys(tags)))


def _decorated(app: Flask, ctx: Any, target: Target) -> Iterator[Options]:
    """The options of the decorated views that answer a GET of a URL."""
    root = ctx.request.root_path
    if ctx.url_adapter is None or not target.path.startswith(root):
        return
    try:
        endpoint, _ = ctx.url_adapter.match(target.path[len(root) :] or "/", method="GET")
    except (HTTPException, RequestRedirect):
        return
    yield from options_of(app.view_functions.get(endpoint))
