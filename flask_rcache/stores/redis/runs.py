"""Which run of a server answers, where its scripts are not told.

Owns the ways to that other than ``INFO`` in a script, which a user may not be granted, and some managed services do not
have. ``INFO`` on the connection has the run id too. Without any ``INFO`` a run is known by a mark: a script with a
random name in it. A server keeps its scripts in its memory only, so a server that was restarted, or a replica that took
over, has the stamp set that names the run, and not the mark of that name.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Any, Final

from ...model.named_tuple import NamedTuple
from .connection import Exchange, pack

__all__ = ["ANY", "Run", "run_of"]

#: In place of the name of another run: whichever the stamp set names.
ANY: Final = "*"
#: Names of runs lie above every reading of the clock, and are exact as doubles; as ``run_name`` of the scripts.
_NAMES: Final = 2**52
_RUN_ID: Final = re.compile(r"run_id:(\w+)")
#: Before this version a replica was sent the scripts of its master.
_KEPT_SINCE: Final = 7


class Run(NamedTuple):
    """A run of a server.

    Args:
        name: as moments have it.
        unlike: the run that the stamp set named, which it is not; :data:`ANY` where the name alone decides.
        server: ``"redis"`` or ``"valkey"``, as ``HELLO`` has it; empty when that was not asked.
        version: of the server, likewise.
    """

    name: str
    unlike: str
    server: str = ""
    version: str = ""


def run_of(exchange: Exchange, stored: str, *, is_needed: bool) -> Run | None:
    """The run of the server that a connection leads to; ``None`` when it is not to be learnt.

    Args:
        exchange: on that connection.
        stored: the run that the stamp set names; empty when it names none.
        is_needed: whether it has to be told from other runs.
    """
    about, hello = exchange(pack(("INFO", "server")) + pack(("HELLO",)), 2)
    found = None if isinstance(about, Exception) else _RUN_ID.search(_text(about))
    server, version = _greeted(hello)
    if found is not None:
        return Run(_named(found[1]), ANY, server, version)
    if _major(version) >= _KEPT_SINCE:
        if stored and exchange(pack(("EVALSHA", _sha(stored), 0)), 1)[0] == stored.encode():
            return Run(stored, stored, server, version)
        name = str(_NAMES + secrets.randbits(52))
        exchange(pack(("EVAL", _mark(name), 0)), 1)
        return Run(name, stored, server, version)
    return None if is_needed else Run(_named(""), ANY, server, version)


def _greeted(hello: Any) -> tuple[str, str]:
    """What a server calls itself in its answer to HELLO, and its version."""
    if not isinstance(hello, dict):
        return "", ""
    return _text(hello.get(b"server", b"")), _text(hello.get(b"version", b""))


def _text(reply: Any) -> str:
    return reply.decode("utf-8", "replace") if isinstance(reply, bytes) else str(reply)


def _major(version: str) -> int:
    head = version.partition(".")[0]
    return int(head) if head.isdecimal() else 0


def _named(run_id: str) -> str:
    digits = hashlib.sha1(run_id.encode(), usedforsecurity=False).hexdigest()[:13]
    return str(_NAMES + int(digits, 16))


def _mark(name: str) -> str:
    return f"return '{name}'"


def _sha(name: str) -> str:
    return hashlib.sha1(_mark(name).encode(), usedforsecurity=False).hexdigest()
