"""The Redis store: rules R1 to R4 on a Redis or Valkey server shared by the fleet.

Owns the loading and invalidating halves of the protocol; reading is ``reader``'s, listing ``listing``'s, what happens
off the request path ``upkeep``'s, the exchange with the server ``server``'s. The names are ``keys``'s, the bytes
``codec``'s. Needs Redis 6.2 or Valkey.
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import replace
from typing import Any, Final

import ormsgpack

from ...codec import MAGIC, Codec
from ...model.entry import Draft
from ...model.forks import new_lock
from ...model.keys import Names, type_tag
from ..protocol import Begin, Begun, Fill, Filled, Grant
from .budget import Budget
from .bus import Message
from .connection import Exchange, pack
from .journal import Journal
from .listing import Listing, chunks
from .maintenance import Upkeep
from .reading import Reader
from .scripts import Argument

__all__ = ["RedisStore"]

_STAMPS_KEPT: Final = 100_000
_STAMP_SECONDS: Final = 86_400
_ANSWERS: Final = {b"+": Begin.GRANTED, b"=": Begin.FILLED, b"-": Begin.BUSY}


def _nowhere() -> None:
    """There are no requests."""


class RedisStore(Reader, Listing, Upkeep):
    """A store on one Redis or Valkey server.

    Args:
        url: where it is.
        names: the key names.
        codec: the envelope.
        timeout: seconds to wait for an answer.
        lease: seconds a lease holds without being renewed.
        load_timeout: seconds after which the lease of a load that still runs is no longer renewed.
        cold: whether what another server run left behind is given up (a restart, a failover).
        scope: the environ of the present request, if there is one: a request waits for two timeouts in all at most.
    """

    def __init__(
        self,
        url: str,
        *,
        names: Names,
        codec: Codec,
        timeout: float = 0.25,
        lease: float = 5.0,
        load_timeout: float = 30.0,
        cold: bool = True,
        scope: Callable[[], MutableMapping[str, Any] | None] = _nowhere,
    ) -> None:
        super().__init__(
            url,
            names=names,
            timeout=timeout,
            cold=cold,
            housework=self._keep_house,
            rest=min(1.0, lease / 3),
            budget=Budget(2 * timeout, scope),
        )
        self.lease: Final = lease
        #: Told of each invalidation that the server has acknowledged, before the call returns.
        self.on_invalidated: Callable[[Message], None] = _nobody
        self.counted = None
        self._codec = codec
        self._known = {}
        self._tails = {}
        self._lease_ms = max(1, int(lease * 1000))
        self._load_timeout = load_timeout
        self._journal = Journal()
        self._lock = new_lock()
        self._count_lock = new_lock()
        self._held = {}
        self._aside = []
        self.remember()

    # Loading

    def begin(self, wants: Sequence[tuple[str, bytes]], token: str) -> list[Begun]:
        """See :meth:`Store.begin`."""
        self._housekeeper.ensure()
        lease_ms = self._lease_ms
        calls = []
        for chunk in chunks(wants):
            keys = [self._names.stamps]
            for key, _ in chunk:
                keys += (self._names.lease(key), key)
            args: list[Argument] = [_new_epoch(), lease_ms, token, *(judged for _, judged in chunk)]
            calls.append((keys, args))
        replies = self._call_many(self._scripts["begin"], calls)
        begun: list[Begun] = []
        for chunk, (epoch, as_of, *answers) in zip(chunks(wants), replies, strict=True):
            for (key, _), answer in zip(chunk, answers, strict=True):
                begun.append(self._begun(key, answer, token, int(epoch), int(as_of)))
        return begun

    def _begun(self, key: str, answer: bytes, token: str, epoch: int, as_of: int) -> Begun:
        if answer[:1] in (b"p", b"f"):
            marker = answer.decode(errors="replace")  # of somebody else: then it is not met again, and nothing stored
            self._held[key, marker] = time.monotonic()  # renewed as a lease is, so that a slow load may still fill
            return Begun(Begin.PASS, Grant(key, marker, epoch, as_of))
        kind = _ANSWERS[answer[:1]]
        if kind is not Begin.GRANTED:
            return Begun(kind, holder=answer[1:].decode(errors="replace"))
        self._held[key, token] = time.monotonic()
        return Begun(kind, Grant(key, token, epoch, as_of))

    def fill(self, fills: Sequence[tuple[Grant, Draft]]) -> list[Filled]:
        """See :meth:`Store.fill`."""
        calls, sizes = [], []
        for chunk in _grouped(fills):
            first = chunk[0][0]
            keys = [self._names.stamps, self._names.meta]
            args: list[Argument] = [first.epoch, first.as_of]
            for grant, draft in chunk:
                sealed = self._codec.seal(draft, epoch=grant.epoch, as_of=grant.as_of)
                type_name = self._names.type_of(grant.key)
                keys += (self._names.lease(grant.key), grant.key, self._names.index(type_name))
                args += (grant.token, _px(draft), type_name, len(draft.tags) + len(draft.handed))
                for tag in draft.tags:
                    args += (tag, grant.as_of)
                for tag, as_of in draft.handed:
                    args += (tag, as_of)
                args.append(sealed)
                sizes.append(len(sealed))
            calls.append((keys, args))
        try:
            replies = self._call_many(self._scripts["fill"], calls)
        finally:
            for grant, _ in fills:
                self._held.pop((grant.key, grant.token), None)
        for grant, draft in fills:
            self._relearn(grant.key, draft)
        outcomes = [Fill(outcome) for reply in replies for outcome in reply]
        if Fill.STORED in outcomes:
            self._breaker.roomy()
        return [
            Filled(outcome, size if outcome is Fill.STORED else 0)
            for outcome, size in zip(outcomes, sizes, strict=True)
        ]

    def write(self, writes: Sequence[tuple[str, Draft]]) -> list[int]:
        """See :meth:`Store.write`."""
        calls, sizes = [], []
        for chunk in chunks(writes):
            keys = [self._names.stamps, self._names.meta]
            args: list[Argument] = [_new_epoch(), self._names.bus]
            for key, draft in chunk:
                sealed = self._codec.seal(draft)
                type_name = self._names.type_of(key)
                keys += (self._names.lease(key), key, self._names.index(type_name))
                args += (_px(draft), type_name, sealed)
                sizes.append(len(sealed))
            calls.append((keys, args))
        stamps = self._call_many(self._scripts["write"], calls)
        for chunk, stamp in zip(chunks(writes), stamps, strict=True):
            self.on_invalidated(Message("k", int(stamp), tuple(key for key, _ in chunk)))
        self._breaker.roomy()
        for key, draft in writes:
            self._relearn(key, draft)
        return sizes

    def _relearn(self, key: str, draft: Draft) -> None:
        members = tuple(dict.fromkeys((*draft.tags, *(tag for tag, _ in draft.handed))))
        known = self._known.get(key)
        if known is None or known.members != members:
            self._learn(key, members)

    def returned(self, grant: Grant) -> None:
        """See :meth:`Store.returned`."""
        self._held.pop((grant.key, grant.token), None)

    def release(self, grants: Sequence[Grant], *, pass_for: float = 0.0, failed: bool = False) -> None:
        """See :meth:`Store.release`."""
        for grant in grants:
            self._held.pop((grant.key, grant.token), None)
        keys = [self._names.lease(grant.key) for grant in grants]
        self._call(
            self._scripts["release"],
            keys,
            [int(pass_for * 1000), "f" if failed else "p", *(grant.token for grant in grants)],
        )

    # Invalidating

    def delete(self, keys: Sequence[str]) -> int:
        """See :meth:`Store.delete`."""
        with self._journalled(keys=keys):
            return self._delete(keys, self._exchange)

    def _delete(self, keys: Sequence[str], exchange: Exchange) -> int:
        calls = []
        for chunk in chunks(keys):
            names = [self._names.stamps]
            for key in chunk:
                names += (self._names.lease(key), key, self._names.index(self._names.type_of(key)))
            calls.append((names, [self._names.bus]))
        removed = 0
        for chunk, (count, stamp) in zip(
            chunks(keys), self._call_many(self._scripts["delete"], calls, exchange), strict=True
        ):
            self.on_invalidated(Message("k", int(stamp), tuple(chunk)))
            removed += count
        return removed

    def invalidate(
        self, tags: Sequence[str], types: Sequence[str] = (), *, everything: bool = False, soft: bool = False
    ) -> int:
        """See :meth:`Store.invalidate`; what is journalled is not soft any more."""
        with self._journalled(tags=tags, types=types, everything=everything):
            if soft and not everything:
                return self._expire(tags, types)
            return self._invalidate(tags, types, everything, self._exchange)

    def _expire(self, tags: Sequence[str], types: Sequence[str]) -> int:
        """Stamp softly: no entry goes, so nothing is moved aside."""
        keys = [self._names.stamps, self._names.soft]
        for name in types:
            keys += (self._names.index(name), "")
        return self._stamp(keys, "s", [*tags, *map(type_tag, types)], self._exchange)[0]

    def _invalidate(self, tags: Sequence[str], types: Sequence[str], everything: bool, exchange: Exchange) -> int:
        moved = sorted(self._types(exchange)) if everything else types
        keys, asides = [self._names.stamps, self._names.soft], []
        for name in moved:
            index = self._names.index(name)
            asides.append(f"{index}~{secrets.token_hex(8)}")
            keys += (index, asides[-1])
        members = [*tags, *map(type_tag, types)]
        live, stamp = self._stamp(keys, "*" if everything else "", members, exchange)
        self._aside.extend((aside, stamp) for aside in asides)
        if asides:
            self._housekeeper.ensure(now=True)
        return live

    def _stamp(self, keys: Sequence[str], kind: str, members: Sequence[str], exchange: Exchange) -> tuple[int, int]:
        args: list[Argument] = [self._names.bus, kind, _STAMPS_KEPT, _STAMP_SECONDS]
        live = stamp = 0
        for chunk in chunks(members) or [()]:
            removed, at, *policy = self._call(self._scripts["invalidate"], keys, [*args, *chunk], exchange)
            live, stamp, keys = live + removed, int(at), keys[:2]
            if policy:  # a pattern follows, which must know whether indexes may be evicted now
                self.facts = replace(self.facts, policy=policy[0].decode())
            else:
                self.on_invalidated(Message("*" if kind == "*" else "t", stamp, tuple(chunk)))
        return live, stamp

    def invalidate_pattern(self, pattern: str, type_name: str | None) -> int:
        """See :meth:`Store.invalidate_pattern`."""
        with self._journalled(patterns=((pattern, type_name),)):
            return self._invalidate_pattern(pattern, type_name, self._patiently)

    def _invalidate_pattern(self, pattern: str, type_name: str | None, exchange: Exchange) -> int:
        _, stamp = self._stamp(
            [self._names.stamps, self._names.soft], "b", (), exchange
        )  # loads in flight are refused from here on
        freed = 0
        for index_type, found in self._matching(pattern, type_name, exchange):
            script = self._scripts["unlink"]
            freed += self._call(script, [self._names.index(index_type)], [0, MAGIC, *found], exchange)[1]
        exchange(pack(("PUBLISH", self._names.bus, ormsgpack.packb(["p", str(stamp), [pattern]]))), 1)
        self.on_invalidated(Message("p", stamp, (pattern,)))
        return freed


def _nobody(message: Message) -> None:
    """Hears nothing: there is no memory tier."""


def _new_epoch() -> int:
    """A random name for a stamp set; above any clock reading, and exact as a double."""
    return 2**52 + secrets.randbits(52)


def _px(draft: Draft) -> int:
    return max(1, int(draft.keep * 1000))


def _grouped(fills: Sequence[tuple[Grant, Draft]]) -> Iterator[list[tuple[Grant, Draft]]]:
    """Fills of one script call each: granted by one begin, which chunked them."""
    for _, group in itertools.groupby(fills, key=lambda fill: (fill[0].epoch, fill[0].as_of)):
        for chunk in chunks(tuple(group)):
            yield list(chunk)
