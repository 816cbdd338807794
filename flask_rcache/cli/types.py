"""The command ``types``, and where a ttl comes from.

Owns the question which of the five places a ttl was taken from. Resolving the ttl itself is ``engine.policies``'s.
"""

from __future__ import annotations

from typing import Any

import click
from flask import Flask, current_app

from ..context import manager_of
from ..engine.manager import CacheManager
from ..model.cache_type import FROM_HEADERS, CacheType, Lifetime
from ..startup import decorated
from ..views.options import Options
from .output import Column, Command, answer, answers, seconds_text, table

__all__ = ["ttl_document", "ttl_source", "types"]


@click.command(cls=Command)
@answers
def types(*, as_json: bool) -> None:
    """List the cache types, with ttls and views.

    It shows where each ttl comes from, and the windows in which entries may be served stale.
    """
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # a proxy's, which its type hides
    manager = manager_of(app)
    known = manager.types
    users: dict[str, list[tuple[str, Options]]] = {name: [] for name in known}
    for endpoint, options in decorated(app):
        users[manager.engine.policies.resolve(options.cache_type).name].append((endpoint, options))
    documents = [_document(manager, cache_type, users[name]) for name, cache_type in sorted(known.items())]
    answer({"types": documents}, _text(documents), as_json=as_json)


def ttl_source(manager: CacheManager, cache_type: CacheType, ttl: object = None) -> str:
    """Where the ttl of a call comes from: ``call``, the name of a setting, ``type`` or ``default``.

    Args:
        manager: the app's.
        cache_type: the type of the call.
        ttl: the call's own.
    """
    if ttl is not None:
        return "call"
    source = manager.settings.ttl_sources.get(cache_type.name)
    if source is not None:
        return f"{source.key} ({'app.config' if source.in_config else 'environment'})"
    return "default" if cache_type.ttl is None else "type"


def ttl_document(ttl: Lifetime) -> float | str:
    """A ttl as JSON."""
    return "from-headers" if ttl is FROM_HEADERS else ttl


def _document(manager: CacheManager, cache_type: CacheType, users: list[tuple[str, Options]]) -> dict[str, Any]:
    policies = manager.engine.policies
    policy = policies.policy(cache_type)
    return {
        "name": cache_type.name,
        "ttl": ttl_document(policy.ttl),
        "ttl_from": ttl_source(manager, cache_type),
        "adaptive_ttl": list(policy.adaptive_ttl) if policy.adaptive_ttl else None,
        "stale_while_revalidate": cache_type.stale_while_revalidate,
        "stale_if_error": cache_type.stale_if_error,
        "l1_ttl": policy.l1_ttl,
        "per_user": cache_type.per_user,
        "views": [
            {
                "endpoint": endpoint,
                "ttl": ttl_document(policies.policy(options.cache_type, options.ttl).ttl),
                "ttl_from": ttl_source(manager, policies.resolve(options.cache_type), options.ttl),
            }
            for endpoint, options in users
        ],
    }


def _text(documents: list[dict[str, Any]]) -> str:
    columns = [
        Column("type"),
        Column("ttl", right=True),
        Column("from"),
        Column("stale while revalidating", right=True),
        Column("stale if error", right=True),
        Column("in memory", right=True),
        Column("per user"),
        Column("views"),
    ]
    return table(columns, map(_row, documents))


def _row(document: dict[str, Any]) -> tuple[str, ...]:
    ttl = _seconds(document["ttl"])
    if document["adaptive_ttl"]:
        ttl = " to ".join(map(seconds_text, document["adaptive_ttl"]))
    views = [
        view["endpoint"] + ("" if view["ttl"] == document["ttl"] else f" ({_seconds(view['ttl'])})")
        for view in document["views"]
    ]
    return (
        document["name"],
        ttl,
        document["ttl_from"],
        _seconds(document["stale_while_revalidate"] or "-"),
        _seconds(document["stale_if_error"] or "-"),
        _seconds(document["l1_ttl"] or "-"),
        "yes" if document["per_user"] else "-",
        ", ".join(views) or "-",
    )


def _seconds(value: float | str) -> str:
    return value if isinstance(value, str) else seconds_text(value)
