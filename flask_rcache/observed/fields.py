"""The fields of a request that can be read, and how texts and messages spell them."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Field", "describe", "field_text"]

#: What was read: ``header``, ``cookie``, ``arg``, ``session``, ``g``, ``environ`` or ``request`` (an attribute of it),
#: and the name, as it was spelled; ``*`` is all of them. An attribute of a session, such as its id, begins with a dot.
Field = tuple[str, str]


def field_text(field: Field) -> str:
    """A field as one text: ``header:x-api-key``, ``session:cart``; an attribute of a request is its name alone.

    >>> field_text(("header", "X_Api-Key")), field_text(("request", "path")), field_text(("arg", "*"))
    ('header:x-api-key', 'path', 'arg:*')
    """
    kind, name = field
    if kind == "request":
        return name
    return f"{kind}:{name.lower().replace('_', '-') if kind == 'header' else name}"


def describe(fields: Iterable[str]) -> str:
    """The fields as a message names them.

    >>> describe({"g:_login_user", "session:_user_id", "header:accept-language", "arg:*", "arg:a", "remote_addr"})
    'current_user, request.args, request.headers["Accept-Language"], request.remote_addr'
    """
    known = set(fields)
    shown = {_described(field) for field in known if f"{field.partition(':')[0]}:*" not in known - {field}}
    if "current_user" in shown:
        shown.discard("session")  # where it was found
    return ", ".join(sorted(shown))


def _described(field: str) -> str:
    kind, colon, name = field.partition(":")
    if kind == "g":
        return "current_user" if name == "_login_user" else f"g.{name}"
    if kind == "session":
        return kind
    if kind == "environ":
        return "request.environ" if name == "*" else f'request.environ["{name}"]'
    if not colon:
        return "request.data" if kind == "body" else f"request.{kind}"
    whole = f"request.{kind}s"
    return whole if name == "*" else f'{whole}["{name.title() if kind == "header" else name}"]'
