"""URLs without their passwords, for logs, pages and errors. Pure."""

from __future__ import annotations

import re

__all__ = ["redacted"]


def redacted(url: str) -> str:
    """The URL without its password, for logs and pages.

    >>> redacted("redis://app:secret@db:6379/1")
    'redis://app:***@db:6379/1'
    """
    scheme, slashes, rest = url.partition("://") if "://" in url else ("", "", url)
    # The second: a "/", "?" or "#" in the password that somebody forgot to quote.
    found = re.match(r"([^:@/?#]*)(:?)[^/?#]*@", rest) or re.match(r"([^:@/?#]*)(:?).*@", rest)
    if found:
        rest = f"{found[1]}{':***' if found[2] else ''}@{rest[found.end() :]}"
    return scheme + slashes + rest.partition("?")[0]
