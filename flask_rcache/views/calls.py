"""The entries of one call of a view: by which tags they are found again, and removing them by the call's arguments.

Owns ``.invalidate`` and ``.key`` of a decorated view, and the tags that ``invalidate_url`` and ``invalidate_user`` look
for. How tags are spelled is ``keys``'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from flask import Flask, Request, current_app

from ..context import current_cache, request_context
from ..engine.invalidations import Invalidated
from ..errors import ConfigError, InvalidKeyError
from ..http import Target
from ..model.keys import call_tag, caller_tag, path_tag
from .bound import AppViews, BoundView
from .identity import path_of
from .options import Options, options_of

__all__ = ["found_by", "invalidate", "key"]


def found_by(
    view: BoundView, request: Request, args: tuple[Any, ...], kwargs: dict[str, Any], *, is_routed: bool
) -> list[str]:
    """The stamp members by which the entry of a call is found, beside its type, its tags and its key.

    Args:
        view: what was called.
        request: the request that it was called in.
        args: what it was called with.
        kwargs: the same.
        is_routed: whether these are the arguments of the URL.
    """
    options = view.options
    found = [path_tag(path_of(request))]
    if not is_routed and options.key_func is None:
        found.append(call_tag(view.origin, options.arguments(args, kwargs)))
    if options.composes and options.key_func is not None:
        found += map(caller_tag, dict.fromkeys(_callers(options.key_func(request))))
    return found


def _callers(named: object) -> Iterator[str]:
    """Whom a ``key_func`` such as ``by_user`` names: what stands behind each name of a kind."""
    if isinstance(named, tuple) and len(named) % 2 == 0:
        for caller in named[1::2]:
            yield from _callers(caller)
    elif named is not None:
        yield str(named)


def invalidate(options: Options, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Invalidated:
    """Remove the answers of a view to a call: of all hosts, queries, variants and users.

    Args:
        options: of the view.
        args: the view's arguments.
        kwargs: the same.

    Returns:
        The number of tags that were invalidated: one for each URL of the call, and one for the call itself.

    Raises:
        ConfigError: the view can't be called with these arguments.
    """
    app = current_app._get_current_object()  # type: ignore[attr-defined]  # a proxy's, which its type hides
    view = AppViews.of(app).view(options)
    arguments = _bound(options, args, kwargs)
    members = list(dict.fromkeys(path_tag(_root(app) + path) for path in _paths(app, options, arguments)))
    try:
        members.append(call_tag(view.origin, arguments))  # where another view calls it
    except InvalidKeyError:
        if not members:
            raise
    return current_cache.engine.invalidations.members("call", (options.function,), members)


def key(options: Options, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """The stored key of a view's answer to a call, for the host of the current request and without a query.

    Args:
        options: of the view.
        args: the view's arguments.
        kwargs: the same.

    Raises:
        ConfigError: no URL of the view takes these arguments; or the key is a ``key_func``'s, which needs a request; or
            there is neither a request nor ``SERVER_NAME``.
    """
    app = current_app._get_current_object()  # type: ignore[attr-defined]  # the same
    view = AppViews.of(app).view(options)
    if options.key_func is not None:
        raise ConfigError(f"the key of {options.function} is made by its key_func of each request: call that")
    paths = list(_paths(app, options, _bound(options, args, kwargs)))
    if not paths:
        raise ConfigError(f"no URL leads to {options.function} with these arguments: {kwargs!r:.200}")
    ctx = request_context()
    scheme, host = (
        (ctx.request.scheme, ctx.request.host)
        if ctx is not None
        else (app.config["PREFERRED_URL_SCHEME"], app.config["SERVER_NAME"])
    )
    if not host:
        raise ConfigError("a key needs a host: call .key() in a request, or set SERVER_NAME")
    root = _root(app)
    return view.key_of(view.keyed(Target.of(scheme, host, root + paths[0], "", root)))


def _bound(options: Options, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    parameters = [name for name in options.signature.parameters if name not in ("self", "cls")]
    if len(args) > len(parameters):
        raise ConfigError(f"{options.function} takes {len(parameters)} arguments, not {len(args)}")
    return {**dict(zip(parameters, args, strict=False)), **kwargs}


def _root(app: Flask) -> str:
    """Where the app is mounted: as the current request says, else as its configuration does."""
    ctx = request_context()
    root: str = ctx.request.root_path if ctx is not None else app.config["APPLICATION_ROOT"]
    return root.rstrip("/")


def _paths(app: Flask, options: Options, arguments: dict[str, Any]) -> Iterator[str]:
    """The decoded paths that lead to a view with these arguments."""
    for endpoint, view in app.view_functions.items():
        if any(found is options for found in options_of(view)):
            for rule in app.url_map.iter_rules(endpoint):
                built = rule.build(arguments, append_unknown=False) if rule.suitable_for(arguments, "GET") else None
                if built is not None:
                    yield unquote(built[1])
