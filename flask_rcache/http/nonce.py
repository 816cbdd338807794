"""Nonces: what a response's headers name, and its body repeats, is for one response only.

Owns finding them. That a response with one is not stored is decided by the caller: on a hit the header may be a new
one, made after the view, and the browser would run no script of the stored body.
"""

from __future__ import annotations

import re
from operator import itemgetter
from typing import Final

from .headers import HeaderLines

__all__ = ["repeats_nonce"]

#: As a policy has it, whatever the field is called. A text, which `re` compiles when the first policy is read.
_NONCE: Final = r"'nonce-([A-Za-z0-9+/_=-]+)'"
#: As a page has it: the attribute of an element, or a member of JSON; as far as nothing of it is escaped.
_ATTRIBUTE: Final = rb"""(?i)\bnonce\\?["']?\s*[=:]\s*\\?["']?([A-Za-z0-9+/_=-]{8,})"""

_value_of: Final = itemgetter(1)


def repeats_nonce(headers: HeaderLines, body: bytes) -> bool:
    """Whether a body contains a nonce that its own headers name.

    Args:
        headers: the final header lines.
        body: as it is sent; of one with a content coding it is not known, and so taken for granted.

    Source: Content Security Policy Level 3, section 2.3.1.

    >>> policy = [("Content-Security-Policy", "script-src 'nonce-abc'")]
    >>> repeats_nonce(policy, b'<script nonce="abc">'), repeats_nonce(policy, b"<script>")
    (True, False)
    >>> repeats_nonce([("Link", "</a.js>; rel=preload; nonce=4f9c01ab")], b'<script nonce="4f9c01ab">')
    True
    """
    if b"nonce" not in body and "nonce-" not in " ".join(map(_value_of, headers)).lower():
        return False  # nearly all responses
    named = [value for _, value in headers if "nonce-" in value.lower()]
    nonces = [nonce for value in named for nonce in re.findall(_NONCE, value, re.IGNORECASE)]
    if not nonces:
        # A field of another syntax, such as the `Link` of a script that is loaded ahead, or a proxy's own.
        found = {each.decode() for each in re.findall(_ATTRIBUTE, body)} if b"nonce" in body else ()
        return any(each in value for each in found for _, value in headers)
    if any(name.lower() == "content-encoding" and value.strip().lower() != "identity" for name, value in headers):
        return True
    return any(form in body for nonce in nonces for form in _forms(nonce))


def _forms(nonce: str) -> set[bytes]:
    """How a nonce may stand in HTML, JSON or a URL."""
    escaped = nonce.replace("+", "&#43;").replace("/", "&#x2F;").replace("=", "&#61;")
    quoted = nonce.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
    in_json = nonce.replace("/", "\\/"), nonce.replace("=", "\\u003d").replace("+", "\\u002b")
    return {each.encode() for each in (nonce, escaped, quoted, *in_json)}
