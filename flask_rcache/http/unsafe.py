"""Which URLs an answer to an unsafe method makes invalid.

Owns the resolution of ``Location`` and ``Content-Location`` and the comparison of origins. Finding out
whether a decorated view serves such a URL, and under which keys, is done by the caller.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final
from urllib.parse import quote, unquote, urljoin, urlsplit

from ..model.named_tuple import NamedTuple
from .headers import HeaderLines, by_name

__all__ = ["Target", "unsafe_targets"]

#: Methods that change nothing. Source: RFC 9110 section 9.2.1.
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

_HOST: Final = re.compile(r"(?:[^\s@/?#\\:\[\]]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Target(NamedTuple):
    """A URL in the parts that the default key is made of.

    Args:
        scheme: lower-case.
        host: lower-case, with its port unless that is the scheme's own.
        path: decoded, script root included.
        query: exactly as it is sent, without the ``?``.
        root: the script root, with which the path begins.
    """

    scheme: str
    host: str
    path: str
    query: str
    root: str = ""

    @classmethod
    def of(cls, scheme: str, host: str, path: str, query: str, root: str = "") -> Target:
        """The normal form of a request's URL.

        Args:
            scheme: ``"https"``.
            host: as in the Host field.
            path: decoded, script root included.
            query: exactly as it came.
            root: the script root, decoded.

        Raises:
            ValueError: the host is no host, or its port no port.

        Source: RFC 9110 section 4.2.3.

        >>> Target.of("HTTP", "Example.org:80", "/a b", "q=1")
        Target(scheme='http', host='example.org', path='/a b', query='q=1', root='')
        """
        scheme = scheme.lower()
        return cls(scheme, _host(scheme, host), path or "/", query, root)


def unsafe_targets(request: Target, headers: HeaderLines, *, method: str, status: int) -> tuple[Target, ...]:
    """The URLs whose stored responses an answer makes invalid: none for a safe method or an error.

    These are the request's own and, when they are of the same origin and resource, those of ``Location`` and
    ``Content-Location``. Another origin is never among them, since one could empty another's cache. Two URLs are of one
    resource when the segments of one path begin those of the other, as a collection's begin its items'; the root is no
    resource, so that a login that redirects to the front page empties nothing.

    Args:
        request: the request's URL.
        headers: the answer's final header lines.
        method: as it came; one that is not known to be safe is unsafe.
        status: the answer's.

    Source: RFC 9111 section 4.4.

    >>> page = Target.of("http", "a.example", "/items", "")
    >>> answer = [("Location", "/items/7")]
    >>> [target.path for target in unsafe_targets(page, answer, method="POST", status=201)]
    ['/items', '/items/7']
    """
    if method in SAFE or not 200 <= status < 400:
        return ()
    targets = [request]
    fields = by_name(headers)
    for reference in (*fields.get("location", ()), *fields.get("content-location", ())):
        target = _resolve(request, reference)
        if target is not None and target not in targets and _are_of_one_resource(request, target):
            targets.append(target)
    return tuple(targets)


def _are_of_one_resource(one: Target, other: Target) -> bool:
    shorter, longer = sorted((_segments(one), _segments(other)), key=len)
    return bool(shorter) and longer[: len(shorter)] == shorter


def _segments(target: Target) -> list[str]:
    """The segments of a path below the script root."""
    return [segment for segment in target.path.removeprefix(target.root).split("/") if segment]


def _resolve(base: Target, reference: str) -> Target | None:
    """The URL that ``reference`` means, ``None`` when it is of another origin or none at all."""
    # A backslash is no part of a URL, and programs differ in which host they see beside one.
    if not reference.strip().partition("#")[0] or "\\" in reference:
        return None
    try:
        parts = urlsplit(urljoin(f"{base.scheme}://{base.host}{quote(base.path)}", reference.strip()))
        host = _host(parts.scheme, parts.netloc.rpartition("@")[2])
    except ValueError:
        return None
    if (parts.scheme, host) != (base.scheme, base.host):
        return None
    # Decoded as the server decodes the path of a request.
    path = unquote(parts.path, errors="replace") or "/"
    return Target(parts.scheme, host, path, parts.query, base.root if path.startswith(base.root) else "")


@lru_cache(maxsize=256)
def _host(scheme: str, netloc: str) -> str:
    if _HOST.fullmatch(netloc) is None:  # what urlsplit makes of it is not what a browser does
        raise ValueError(f"not a host: {netloc!r}")
    parts = urlsplit(f"//{netloc}")
    name, port = (parts.hostname or "").lower(), parts.port
    if ":" in name:
        name = f"[{name}]"
    return name if port is None or port == _DEFAULT_PORTS.get(scheme) else f"{name}:{port}"
