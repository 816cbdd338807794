"""Decorated views: the HTTP side of the cache, from the request to what is stored."""

from __future__ import annotations

from flask import Flask

from ..context import InScope
from . import beginning, commit
from .decorator import LOOKS_UP, CachedView, cache_response
from .identity import by_caller, by_user
from .validators import not_modified

__all__ = ["CachedView", "by_caller", "by_user", "cache_response", "install", "not_modified"]


def install(app: Flask, in_scope: InScope) -> None:
    """Have the requests of an app observed, and the results of its decorated views committed; once for each app."""
    beginning.install(app, in_scope, LOOKS_UP)
    commit.install(app)
