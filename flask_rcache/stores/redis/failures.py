"""What the errors of a server mean, and of the way to it: the driver's, and error replies.

Owns the kinds of failures and the sentence for each: what happened, and what somebody has to change. Pure.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ...errors import StoreError, StoreFullError, StoreUnavailableError
from .facts import EVICTION_ADVICE

__all__ = ["Failure", "WrongServerError", "classify", "is_closed_at_once", "translated"]

#: Everything the driver raises when the server cannot be asked.
_AWAY: Final = (RedisConnectionError, RedisTimeoutError, OSError, AuthorizationError, BusyLoadingError)


class WrongServerError(RedisError):
    """What answers is not what the URL says; the message says what it is, and what to write instead."""


class Failure(Enum):
    """What an error of the server, or on the way to it, means."""

    UNREACHABLE = "unreachable"
    """No connection, no answer, or a server that cannot answer yet."""
    CROWDED = "crowded"
    """It takes no more connections (``maxclients``); those there are work."""
    FULL = "full"
    """It has no room for an entry (``maxmemory``); the rest works."""
    READ_ONLY = "read-only"
    """It is a replica now."""
    CONFIGURATION = "configuration"
    """It does not let this user, or anybody, run a command: somebody has to change that."""
    REFUSED = "refused"
    """It refused a command for another reason."""


_CROWD: Final = "max number of clients"
#: Errors of who asks the wrong server, or in the wrong way, and what to write instead.
_WRONG_URL: Final = (
    (
        re.compile(r"(?i)wrong.version.number|record.layer.failure|unknown.protocol"),
        "does not use TLS: write redis:// in RCACHE_URL, or the port that has TLS",
    ),
    (
        re.compile(r"(?i)certificate.verify.failed"),
        "has a certificate that is not trusted: set ssl_ca_certs in RCACHE_REDIS_OPTIONS to its CA's file",
    ),
    (
        re.compile(r"(?i)certificate.required|handshake.failure"),
        "wants a certificate of its clients: set ssl_certfile and ssl_keyfile in RCACHE_REDIS_OPTIONS",
    ),
    (
        re.compile(r"^(?:MOVED|ASK|CROSSSLOT|CLUSTERDOWN) |SELECT is not allowed in cluster mode"),
        "is a node of a cluster: write redis+cluster:// in RCACHE_URL",
    ),
    (
        re.compile(r"cluster support disabled|Cluster mode is not enabled"),
        "is no cluster: write redis:// in RCACHE_URL",
    ),
)
_NO_PASSWORD: Final = re.compile(r"NOAUTH|Authentication required|HELLO must be called with")
#: How a server that expects TLS answers who does not use it.
_CLOSED_AT_ONCE: Final = re.compile(r"closed by server|closed the connection|Connection reset by peer", re.IGNORECASE)
_FORBIDDEN: Final = re.compile(
    r"NOPERM|has no permissions|ACL failure|executing the script can't|unknown (?:redis )?command", re.IGNORECASE
)
_OTHERS_PLACE: Final = re.compile(r"(?:access|publish).* (?:key|channel)s?\b")
#: Where the command stands: in an error of the access list, in one of a command, in the line of a script.
_COMMAND: Final = (
    re.compile(r"run the '([^']+)' command"),
    re.compile(r"unknown command ['`]([^'`]+)"),
    re.compile(r"redis\.p?call\('(\w+)'"),
)


def classify(error: BaseException) -> Failure:
    """What ``error`` means: one that the driver raised, or an error reply.

    >>> classify(NoPermissionError("NOPERM User app has no permissions to run the 'zmscore' command")).value
    'configuration'
    """
    text = str(error)
    if _CROWD in text:
        return Failure.CROWDED
    if isinstance(error, OutOfMemoryError) or text.startswith("OOM "):
        return Failure.FULL
    if isinstance(error, ReadOnlyError) or "READONLY " in text:
        return Failure.READ_ONLY
    if isinstance(error, AuthenticationError | NoPermissionError | WrongServerError) or _FORBIDDEN.search(text):
        return Failure.CONFIGURATION
    if _instead(text):
        return Failure.CONFIGURATION
    return Failure.UNREACHABLE if isinstance(error, _AWAY) else Failure.REFUSED


def is_closed_at_once(error: BaseException) -> bool:
    """Whether a server has closed a connection in place of a greeting, as one does that expects TLS."""
    return _CLOSED_AT_ONCE.search(str(error)) is not None and not isinstance(error, AuthenticationError)


def _instead(text: str) -> str:
    """What to write instead, where an error says that the URL is that of something else; else empty."""
    return next((remedy for pattern, remedy in _WRONG_URL if pattern.search(text)), "")


def translated(error: Exception, location: str) -> StoreError:
    """The driver's error, or an error reply, as one of ours; its cause is the error."""
    kind = classify(error)
    failure: StoreError
    if isinstance(error, StoreError):
        return error
    if kind is Failure.FULL:
        failure = StoreFullError(f"{location} has no room (maxmemory): raise it; {EVICTION_ADVICE}")
    elif kind is Failure.CROWDED:
        failure = StoreUnavailableError(
            f"{location} takes no more connections: lower RCACHE_MAX_CONNECTIONS, or raise the server's maxclients"
        )
    elif kind is Failure.CONFIGURATION:
        joint = ":" if isinstance(error, WrongServerError) else ""
        failure = StoreUnavailableError(f"{location}{joint} {_remedy(error)}")
    elif kind is Failure.READ_ONLY:
        failure = StoreUnavailableError(f"{location} is no master any more: another server has taken over ({error})")
    elif kind is Failure.UNREACHABLE:
        # Some texts of redis-py end with a full stop; ours go on.
        failure = StoreUnavailableError(f"{location}: {type(error).__name__}: {str(error).removesuffix('.')}")
    else:
        failure = StoreUnavailableError(f"{location} refused a command: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure


def _remedy(error: Exception) -> str:
    """What somebody has to change so that the server does what it is asked, and what it said."""
    text = str(error)
    if isinstance(error, WrongServerError):
        return text
    instead = _instead(text)
    if instead:
        return f"{instead} ({text})"
    if isinstance(error, AuthenticationError):
        if _NO_PASSWORD.search(text):
            return f"wants a password: write redis://user:password@… in RCACHE_URL ({text})"
        return f"does not admit the user of the cache: correct the user and the password in RCACHE_URL ({text})"
    if _OTHERS_PLACE.search(text):
        return (
            f"does not let the user of the cache use its keys or its channel: grant ~<prefix>* and &<prefix>* ({text})"
        )
    found = next((found for found in (pattern.search(text) for pattern in _COMMAND) if found), None)
    if found is None:
        return (
            f"does not let the user of the cache run all that it must: grant the commands that the docs list ({text})"
        )
    command = found[1].upper()
    if "unknown" in text.lower():
        return f"has no command {command}: it is renamed, or the server is too old ({text})"
    return f"does not let the user of the cache run {command}: grant it, ACL SETUSER <user> +{command.lower()} ({text})"
