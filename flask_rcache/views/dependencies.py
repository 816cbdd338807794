"""What an answer depends on: the reads of a request become the fields that select among the answers of its URL.

Owns which reads count (DESIGN, section 4): all of a request's from its beginning until its view has returned, those of
tracing and proxies only where the view itself reads them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ..http import ADDRESS, BODY, QUIET_SESSION, TARGET, FieldRules, environ_field, is_field, is_own_field, shown_field
from ..model.named_tuple import NamedTuple
from ..observed import Field, field_text

__all__ = ["UNSEEN", "Counting", "Dependencies", "dependencies", "fields_noted", "identities"]

#: What each request has, so that what reads it before the view is no sign that answers depend on it.
_OF_ALL: Final = frozenset({ADDRESS, TARGET})
#: What the first requests of an app have of its middlewares: it was not noted yet.
UNSEEN: Final = "what middlewares have read"
#: More than a view reads by names of its own: they come from the client.
_MOST_FIELDS: Final = 64


class Counting(NamedTuple):
    """Which reads count for a request.

    Args:
        rules: which header fields negotiate, and which are ignored before the view.
        query: the arguments that are in the key; ``None`` when all are.
        session: whether what the session holds selects; a request whose session identifies bypasses otherwise.
        secrets: the reads that identify a caller, which a view that is the same for everyone must not make.
    """

    rules: FieldRules
    query: tuple[str, ...] | None
    session: bool
    secrets: frozenset[str] = frozenset()


class Dependencies(NamedTuple):
    """What an answer depends on.

    Args:
        fields: those that select it, sorted.
        whole: what was read as a whole in the view, so that nobody can say what of it counts; empty when nothing was.
        secrets: what identifies a caller, of the reads in the view, as it is shown.
    """

    fields: tuple[str, ...]
    whole: str = ""
    secrets: tuple[str, ...] = ()


def dependencies(before: Iterable[Field], inside: Iterable[Field], counting: Counting) -> Dependencies:
    """What an answer depends on.

    Args:
        before: what was read from the beginning of the request until the view was called.
        inside: what was read until the view had returned.
        counting: which reads count.
    """
    fields: set[str] = set()
    whole: set[str] = set()
    inside = set(inside)
    for read in before:
        field = _field(read, counting)
        if field and not field.endswith(":*") and field not in _OF_ALL and not counting.rules.ignores(field):
            fields.add(field)
    for read in inside:
        field = _field(read, counting)
        if field in _WHOLES or (field and not is_field(field)):
            whole.add(_WHOLES.get(field) or f"a {read[0]} of that name")
        elif field:
            fields.add(field)
    if len(fields) > _MOST_FIELDS:
        whole.add("more fields than are compared")
    secrets = {_secret(read, counting.secrets) for read in inside if counting.secrets} - {""}
    return Dependencies(tuple(sorted(filter(is_field, fields))), " and ".join(sorted(whole)), tuple(sorted(secrets)))


def fields_noted(fields: Iterable[str]) -> list[Field]:
    """Fields of an answer as reads, for the answer that is made of it."""
    found: list[Field] = []
    for field in fields:
        field = field.removeprefix("!")
        kind, colon, name = field.partition(":")
        found.append((kind, name) if colon else ("header", field))
    return found


#: What is read as a whole.
_WHOLES: Final = {
    "*": "all headers",
    "cookie:*": "all cookies",
    "environ:*": "the whole environ",
}


def _field(read: Field, counting: Counting) -> str:
    """The field that a read is of; empty for one that does not count."""
    kind, name = read
    if kind == "header":
        field = name.lower().replace("_", "-")
    elif kind == "cookie":
        field = f"cookie:{name}"
    elif kind == "environ":
        field = "environ:*" if name == "*" else environ_field(name)
        if name == "QUERY_STRING":
            field = _argument("*", counting)
    elif kind == "arg":
        field = _argument(name, counting)
    elif kind == "session":
        counts = (counting.session and name not in QUIET_SESSION) or name.startswith(".")  # even an empty one has an id
        field = f"session:{name}" if counts else ""
    elif kind == "request":
        field = {"remote_addr": ADDRESS, "body": BODY}.get(name, "")
        if name == "query_string":
            field = _argument("*", counting)
    else:
        field = ""
    return "" if is_own_field(field) else field


def _argument(name: str, counting: Counting) -> str:
    return "" if counting.query is None or name in counting.query else f"arg:{name}"


def _secret(read: Field, known: frozenset[str]) -> str:
    """What a read says of who is asking; empty for nothing."""
    kind, name = read
    if kind == "session":
        return "the session" if name not in QUIET_SESSION else ""
    text = field_text(read)
    if text not in known:
        return ""
    if kind == "g":
        return {"_login_user": "current_user", "csrf_token": "the CSRF token"}.get(name, f"g.{name}")
    return shown_field(text.removeprefix("header:"))


def identities(reads: Iterable[Field], known: frozenset[str]) -> str:
    """What of some reads says who is asking, as a message names it; empty for nothing.

    Args:
        reads: of the request.
        known: the reads that identify a caller, see :func:`secrets_of`.
    """
    found = {_secret(read, known) for read in reads} - {""}
    return " and ".join(sorted(found))


def shown_fields(fields: Iterable[str]) -> str:
    """Fields as a message names them."""
    return ", ".join(shown_field(field) for field in fields)


def secrets_of(settings: Any) -> frozenset[str]:
    """The reads that identify a caller, by an app's settings."""
    headers = ("authorization", *map(str.lower, settings.credential_headers))
    return frozenset(
        [
            *(f"header:{name}" for name in headers),
            *(f"cookie:{name}" for name in settings.credential_cookies),
            *(f"g:{name}" for name in settings.identity_g),
            "environ:REMOTE_USER",
        ]
    )
