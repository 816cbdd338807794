"""The beginning of a request: from here on what is read of it is noted, before any function of the app sees it.

Where none can before a decorated view looks the request up, that is left to the view: a hit needs no record.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType, FunctionType, MethodType
from typing import Any, Final

import flask.app
from flask import Flask

from ..context import InScope, request_context
from ..observed import defer, observe, observed_when_made, session_of, watch_environ

__all__ = ["install"]

#: What of an app runs between the beginning of a request and its view.
_BETWEEN: Final = ("dispatch_request", "ensure_sync", "async_to_sync", "make_default_options_response")


def install(app: Flask, in_scope: InScope, looks_up: CodeType) -> None:
    """Have each request of an app observed; once for each app.

    Args:
        app: the app.
        in_scope: knows of the app's front.
        looks_up: the code of the functions that are decorated views.
    """
    # The first that runs of a request when Flask has opened its session and matched its URL. The signal that is sent
    # before it costs each request five times as much.
    in_scope.preprocess = _observing(app, app.preprocess_request, in_scope, looks_up)
    app.preprocess_request = in_scope.preprocess  # type: ignore[method-assign]


def _observing(app: Flask, preprocess: Callable[..., Any], in_scope: InScope, looks_up: CodeType) -> Callable[..., Any]:
    is_plain = all(_is_flasks(getattr(app, name), name) for name in _BETWEEN)
    is_plain = is_plain and _is_flasks(preprocess, "preprocess_request")

    def preprocess_request(*args: Any) -> Any:
        ctx = request_context()
        app, request, front = ctx.app, ctx.request, in_scope.front
        if (
            is_plain
            and front is None  # which has to know what was read
            and not (app.before_request_funcs or app.url_value_preprocessors)
            and app.__dict__.keys().isdisjoint(_BETWEEN)
        ):
            rule = request.url_rule
            view = None if rule is None else app.view_functions.get(rule.endpoint)
            if getattr(view, "__code__", None) is looks_up and defer(request):
                return None  # as Flask's own would, after a search for functions
        reads = observe(request, session_of(ctx))
        if reads.made_by is not None:
            app.request_class = observed_when_made(reads.made_by, has_environ=front is not None)
        if front is not None:
            watch_environ(request)
        return preprocess(*args)

    return preprocess_request


def _is_flasks(method: Any, name: str) -> bool:
    """Whether a method is as Flask has it: no subclass, extension or tracer has put another in its place."""
    function = getattr(method, "__func__", None)
    return (
        type(method) is MethodType
        and type(function) is FunctionType
        and function is getattr(Flask, name)
        and function.__code__.co_filename == flask.app.__file__
    )
