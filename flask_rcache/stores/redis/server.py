"""One server: what is sent to it, and what its failures mean.

Owns the exchange of commands and scripts with one Redis or Valkey server, the comparing of server runs on each new
connection, and the translation of every refusal. What the commands mean is its subclasses'.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from redis.exceptions import ResponseError

from ...errors import StoreError, StoreFullError, StoreUnavailableError
from ...model.entry import Stamps
from ...model.keys import EPOCH, FLOOR, Names
from ..protocol import Trouble
from .breaker import Breaker
from .budget import Budget
from .connection import Exchange, pack
from .facts import Facts
from .housekeeper import Housekeeper
from .pool import Wire, translated
from .scripts import Argument, Script, load

__all__ = ["Server", "stamps_of"]

logger: Final = logging.getLogger("flask_rcache")

_FORMAT: Final = 1
_NEVER: Final = 2**63
_SCRIPTS: Final = (
    "attach",
    "beat",
    "begin",
    "count",
    "delete",
    "fill",
    "invalidate",
    "release",
    "rows",
    "unlink",
    "write",
)


class Server:
    """Commands and scripts on one server.

    Args:
        url: where it is.
        names: the key names.
        timeout: seconds to wait for an answer.
        cold: whether what another server run left behind is given up (a restart, a failover).
        housework: a bound method: one round of housekeeping, see :class:`Housekeeper`.
        rest: seconds between its rounds.
        budget: how long one request may wait in all.
    """

    def __init__(
        self,
        url: str,
        *,
        names: Names,
        timeout: float,
        cold: bool,
        housework: Callable[[], float | None],
        rest: float,
        budget: Budget,
    ) -> None:
        self._names: Final = names
        self._cold: Final = cold
        #: What the server said of itself on the last connection.
        self.facts = Facts()
        self._warned: Final[set[str]] = set()
        self._breaker: Final = Breaker()
        self._generation = 0
        self._scripts: Final = {name: load(name) for name in _SCRIPTS}
        self._wire: Final = Wire(url, timeout=timeout, breaker=self._breaker, attach=self._on_connect, budget=budget)
        self._housekeeper: Final = Housekeeper(housework, name="flask_rcache-housekeeping", rest=rest)

    @property
    def location(self) -> str:
        """See :attr:`Store.location`."""
        return self._wire.location

    @property
    def wire(self) -> Wire:
        """The connections, for a tier in front that listens to the bus."""
        return self._wire

    @property
    def trouble(self) -> Trouble | None:
        """See :attr:`Store.trouble`."""
        return self._breaker.trouble

    @property
    def outage(self) -> Trouble | None:
        """The present incident when the server is not asked."""
        return self._breaker.outage

    def _exchange(self, payload: bytes, replies: int) -> list[Any]:
        if not self._housekeeper.asked:  # while somebody asks it beats, else a demoted master would be read for ever
            self._housekeeper.ensure()
        try:
            return self._wire.exchange(payload, replies)
        except StoreUnavailableError:
            self._housekeeper.ensure()  # it probes
            raise

    def _patiently(self, payload: bytes, replies: int) -> list[Any]:
        """An exchange of a walk over many keys: each answer within its timeout, however many there are."""
        if not self._housekeeper.asked:
            self._housekeeper.ensure()
        return self._wire.exchange(payload, replies, patient=True)

    def _probe(self, payload: bytes, replies: int) -> list[Any]:
        return self._wire.exchange(payload, replies, probing=True)

    def _replies(self, payload: bytes, replies: int) -> list[Any]:
        answers = self._exchange(payload, replies)
        for answer in answers:
            if isinstance(answer, Exception):
                raise self._refused(answer)
        return answers

    def _call(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[Argument],
        exchange: Exchange | None = None,
    ) -> Any:
        return self._call_many(script, [(keys, args)], exchange)[0]

    def _call_many(
        self,
        script: Script,
        calls: Sequence[tuple[Sequence[str], Sequence[Argument]]],
        exchange: Exchange | None = None,
    ) -> list[Any]:
        replies = script.call_many(exchange or self._exchange, calls)
        for reply in replies:
            if isinstance(reply, Exception):
                raise self._refused(reply)
        return replies

    def _refused(self, error: Any) -> StoreError:
        """An error reply as ours. Only "no room" leaves the store in use; the rest says it is not fit to be."""
        failure = translated(error, self.location)
        failure.__cause__ = error
        if isinstance(failure, StoreFullError):
            self._breaker.full(failure)
        else:
            self._breaker.trip(failure)
        self._housekeeper.ensure()
        return failure

    def _on_connect(self, exchange: Exchange) -> None:
        """Compare the server's run with the one this cache knows, before anything is trusted."""
        self._housekeeper.ensure()
        keys = [self._names.stamps, self._names.meta, self._names.soft]
        reply = self._scripts["attach"].call(
            exchange, keys, [_FORMAT, "cold" if self._cold else "warm", self._generation]
        )
        if isinstance(reply, Exception):
            raise reply
        state, detail, *rest = reply
        if state == b"info":
            raise ResponseError(
                f"{detail.decode()}: without INFO a restart goes unnoticed, and an old snapshot would be served; grant "
                "+info to the user of the cache, or set RCACHE_ON_FAILOVER to warm"
            )
        if state == b"format":
            raise ResponseError(
                f"the cache under prefix {self._names.prefix!r} has format {detail.decode()}, this release writes "
                f"{_FORMAT}: set another RCACHE_PREFIX while both releases run"
            )
        *facts, generation = rest
        self._generation = max(self._generation, int(generation))
        self.facts = Facts.of(detail, *facts)
        self._warn()

    def _warn(self) -> None:
        """Say once what weakens a promise on this server."""
        for warning in self.facts.warnings:
            if warning not in self._warned:
                self._warned.add(warning)
                logger.warning("[CACHE] %s: %s", self.location, warning)

    def _stamps_of(self, members: Sequence[str]) -> Stamps:
        """The stamps of some members, as they are now."""
        scores = self._replies(pack(("ZMSCORE", self._names.stamps, EPOCH, FLOOR, *members)), 1)[0]
        return stamps_of(members, scores)

    def _soft_stamps(self, members: Sequence[str]) -> dict[str, int]:
        """The stamps that came before those members' soft ones; a member whose stamp is not soft is not there."""
        if not members:
            return {}
        hard = self._exchange(pack(("HMGET", self._names.soft, *members)), 1)[0]
        if isinstance(hard, Exception):  # of another kind: every stamp is hard
            return {}
        found = {}
        for member, stamp in zip(members, hard, strict=True):
            if stamp is not None:
                with suppress(ValueError):
                    found[member] = whole(float(stamp))
        return found

    def _types(self, exchange: Exchange) -> set[str]:
        """Every type that has an index, whichever process made it."""
        fields = exchange(pack(("HKEYS", self._names.meta)), 1)[0]
        if isinstance(fields, Exception):
            raise self._refused(fields)
        types = set()
        for name in fields:
            with suppress(UnicodeDecodeError):  # no name of ours
                if name.startswith(b"type:"):
                    types.add(name[5:].decode())
        return types


def whole(score: float) -> int:
    """A score as a stamp; what can be none of ours is later than everything, so that nothing is valid by it."""
    return int(score) if abs(score) < _NEVER else _NEVER


def stamps_of(members: Sequence[str], scores: Sequence[float | None]) -> Stamps:
    """The scores of the epoch, the floor and some members."""
    by_tag = {member: whole(score) for member, score in zip(members, scores[2:], strict=True) if score is not None}
    return Stamps(whole(scores[0] or 0), whole(scores[1] or 0), by_tag)
