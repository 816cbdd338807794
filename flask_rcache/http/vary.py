"""Vary: which request fields select a variant, and the name of the variant a request asks for.

Owns the normal form of a Vary and the secondary key. Counting variants and keeping them is done by the
caller.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import parse_qsl

from werkzeug.datastructures import MultiDict
from werkzeug.http import parse_cookie

__all__ = ["STAR", "cookies_of", "environ_key", "normalise_vary", "variant_id"]

#: The normal form of ``Vary: *``: no later request matches.
STAR: Final[tuple[str, ...]] = ("*",)

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

# Only where the field's own specification says that it is a list is white space around commas without
# meaning: in a Cookie, or in a field of the app's own, it may tell two users apart.
_LISTS: Final = frozenset({"accept", "accept-charset", "accept-encoding", "accept-language"})

# … and of these only where it does not matter how a member is written.
_WEIGHTED: Final = frozenset({"accept-encoding", "accept-language"})
_WEIGHT: Final = re.compile(r"q=([01](?:\.[0-9]{0,3})?)")
_NOTHING: Final[Mapping[str, str | None]] = MappingProxyType({})

# WSGI cannot tell a missing one of these from an empty one.
_UNPREFIXED: Final = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}


def normalise_vary(lines: Iterable[str]) -> tuple[str, ...]:
    """The field names of all Vary lines: lower-case, sorted, each once.

    Args:
        lines: the field's values, one per header line.

    Returns:
        The names; ``STAR`` when ``*`` is among them or a member is not a field name.

    Source: RFC 9110 section 12.5.5.

    >>> normalise_vary(["Origin, accept-encoding", "Accept-Encoding"]), normalise_vary(["Accept, *"])
    (('accept-encoding', 'origin'), ('*',))
    """
    members = {member.strip(" \t") for line in lines for member in line.split(",")}
    members.discard("")
    if not members:
        return ()
    # What cannot be read cannot be matched either.
    if "*" in members or not all(map(_TOKEN.fullmatch, members)):
        return STAR
    return tuple(sorted({member.lower() for member in members}))


def variant_id(names: tuple[str, ...], environ: Mapping[str, Any], given: Mapping[str, str | None] = _NOTHING) -> str:
    """The name of the variant that a request selects: a 128-bit hash of the fields that ``names`` lists.

    A missing field differs from an empty one, and no two different lists of values run together. Where its
    specification gives no meaning to how a value is written, it is normalised: white space around the commas of the
    Accept fields (outside quoted strings), the case of languages and codings, their order where the weights say it
    (of codings in any case); elsewhere only white space around the whole value.

    Args:
        names: what :func:`normalise_vary` gave, not ``STAR``; among them ``cookie:lang`` for one cookie, and
            ``arg:page`` for one argument of the query.
        environ: the WSGI environ, in which several lines of one field are one value already.
        given: values to take in place of the request's own.

    Returns:
        32 hexadecimal digits; ``""`` when ``names`` is empty.

    Raises:
        ValueError: ``names`` is ``STAR``, which selects nothing.

    Source: RFC 9111 section 4.1; RFC 9110 sections 12.4.2, 12.5.3 and 12.5.4.

    >>> gzip = ("accept-encoding",)
    >>> tight, wide = {"HTTP_ACCEPT_ENCODING": "gzip,br"}, {"HTTP_ACCEPT_ENCODING": " br , GZIP;q=1.0"}
    >>> variant_id(gzip, tight) == variant_id(gzip, wide)
    True
    >>> variant_id(gzip, {}) == variant_id(gzip, {"HTTP_ACCEPT_ENCODING": ""})
    False
    """
    if not names:
        return ""
    if names == STAR:
        raise ValueError("Vary: * selects no variant: do not look it up and do not store it")
    parts: list[str] = []
    for name in names:
        value = given[name] if name in given else _value(name, environ)
        parts.append(f"{name}-;" if value is None else f"{name}:{len(value)}:{value};")
    return blake2b("".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


@lru_cache(maxsize=1024)
def environ_key(name: str) -> str:
    """Where an environ has a header field."""
    return _UNPREFIXED.get(name, "HTTP_" + name.upper().replace("-", "_"))


def _value(name: str, environ: Mapping[str, Any]) -> str | None:
    """What a request has of a field, in its normal form."""
    if ":" in name:
        return _item(name, environ)
    value: str | None = environ.get(environ_key(name))
    if value is None or (not value and name in _UNPREFIXED):
        return None
    return _normal(name, value) if name.startswith("accept") else value.strip(" \t")


def _item(name: str, environ: Mapping[str, Any]) -> str | None:
    """One cookie, or one argument of the query; of several with the name, all."""
    kind, _, item = name.partition(":")
    if kind == "cookie":
        cookies = cookies_of(environ)
        if cookies is None:
            return str(environ["HTTP_COOKIE"])
        found = cookies.getlist(item)
    else:
        text = environ.get("QUERY_STRING", "").encode("latin1", "replace").decode(errors="replace")
        found = [value for each, value in parse_qsl(text, keep_blank_values=True) if each == item]
    return "".join(f"{len(value)}:{value}" for value in found) if found else None


def cookies_of(environ: Mapping[str, Any]) -> MultiDict[str, str] | None:
    """The cookies of a request; ``None`` when nobody can say what is in them."""
    try:
        return parse_cookie(environ.get("HTTP_COOKIE", ""))
    except UnicodeDecodeError:
        return None


@lru_cache(maxsize=1024)
def _normal(name: str, value: str) -> str:
    value = value.strip(" \t")
    if name not in _LISTS or '"' in value:
        return value
    members = [member.strip(" \t") for member in value.split(",")]
    if name not in _WEIGHTED:
        return ",".join(members)
    weighed = [_weighed(member.lower()) for member in members if member]
    # Which of two languages of one weight comes first is what `accept_languages.best` says: `*` comes after them.
    weighed.sort(key=lambda each: (-each[1], each[0] if name == "accept-encoding" else each[0] == "*"))
    return ",".join(token if weight == 1 else f"{token};q={weight:g}" for token, weight in weighed)


def _weighed(member: str) -> tuple[str, float]:
    """A member of a list and its weight; one whose weight is not understood stays as it is written."""
    token, semicolon, weight = member.partition(";")
    found = _WEIGHT.fullmatch(weight.strip(" \t"))
    if semicolon and found is None:
        return member, 1.0
    return token.strip(" \t"), float(found[1]) if found is not None else 1.0
