"""Whom an answer is for: what was read of a request to make it, and is not in its key.

Owns both rules. What a function has read stands in no key, so its value is not stored. An answer of a view is stored
with the fields that it depends on, and only from and for requests that have none of them: a page that looks for a user
in the session is shared by those who are not signed in, and by nobody else. It is the rule of ``@cache_response``,
without variants. Its links may have the host in them, so it is for requests to the same host.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

from ..context import EXTENSION, current_cache, request_context
from ..http import ADDRESS, FieldRules, Selection, shown_field
from ..model.named_tuple import NamedTuple
from ..observed import Field, Observed, field_text, observe, observing, raw_environ, session_of
from ..views.bound import has_flashes, is_session_changed
from ..views.dependencies import Counting, dependencies
from ..views.identity import leave_session_protection_alone

__all__ = [
    "Audience",
    "audience_of",
    "blocked_by",
    "is_for_once",
    "observing_here",
    "read_before",
    "root_of",
    "uncovered",
]


class Audience(NamedTuple):
    """For which requests an answer of a view is.

    Args:
        fields: those that have none of these.
        refused: what it depends on that no request lacks; empty when it is for some.
    """

    fields: tuple[str, ...] = ()
    refused: str = ""


def observing_here() -> AbstractContextManager[Observed]:
    """Note what is read of the current request, if there is one."""
    context = request_context()
    if context is None or EXTENSION not in context.app.extensions:
        return observing(None, ())
    leave_session_protection_alone(context.app)
    return observing(context, current_cache.settings.identity_g)


def read_before(context: Any) -> tuple[Field, ...]:
    """What was read of a request so far."""
    return tuple(observe(context.request, session_of(context)))


def uncovered(reads: frozenset[str], covered: frozenset[str]) -> frozenset[str]:
    """What was read that was not read for the key; who reads all of a kind has read each.

    >>> sorted(uncovered(frozenset({"arg:page", "session:user", "path"}), frozenset({"arg:*", "path"})))
    ['session:user']
    """
    rest = {each for each in reads - covered if f"{each.partition(':')[0]}:*" not in covered}
    if "arg:*" in covered:
        rest.discard("query_string")
    return frozenset(rest)


def audience_of(before: Iterable[Field], inside: Iterable[Field], covered: frozenset[str]) -> Audience:
    """For which requests an answer is.

    Args:
        before: what was read of its request until the view was called.
        inside: what was read until it had returned.
        covered: what is in the key, as texts.
    """
    settings = current_cache.settings
    inside = _beside(inside, covered)
    rules = FieldRules(settings.negotiated, settings.ignored_fields)
    counting = Counting(rules, None if "arg:*" in covered else (), session=True)
    found = dependencies(_beside(before, covered), inside, counting)
    if ADDRESS in found.fields:
        return Audience(refused="request.remote_addr")
    return Audience(tuple(f"!{field}" for field in found.fields), found.whole)


def blocked_by(fields: tuple[str, ...], context: Any) -> str:
    """The field for whose sake a request gets no answer that is for others; empty when there is none.

    Args:
        fields: those that it must not have.
        context: of the request.
    """
    if not fields:
        return ""
    field = _selection(fields).blocked_by(raw_environ(context.request), session_of(context))
    return shown_field(field) if field else ""


@functools.lru_cache(maxsize=512)
def _selection(fields: tuple[str, ...]) -> Selection:
    return Selection(fields)


def root_of(context: Any) -> str:
    """Where a request has found the app: scheme, host and script name."""
    environ = raw_environ(context.request)
    host = environ.get("HTTP_HOST") or f"{environ.get('SERVER_NAME')}:{environ.get('SERVER_PORT')}"
    return f"{environ.get('wsgi.url_scheme')}://{host}{environ.get('SCRIPT_NAME', '')}"


def is_for_once(context: Any) -> bool:
    """Whether a request has what its next page must not show again, or has changed what is its own."""
    session = session_of(context)
    return has_flashes(context) or is_session_changed(session, observe(context.request, session).session)


def _beside(fields: Iterable[Field], covered: frozenset[str]) -> list[Field]:
    return [field for field in fields if uncovered(frozenset({field_text(field)}), covered)]
