"""Broken rules: each takes one rule of the engine away in this process, to show that the harness finds out.

The product has no switch for any of this: methods are replaced. A harness that finds nothing with a rule removed
would prove nothing with it in place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flask_rcache.engine.manager import CacheManager
from flask_rcache.engine.single_flight import Flights, Load
from flask_rcache.model.entry import Draft, Entry
from flask_rcache.stores.protocol import Filled, Grant, Reading
from flask_rcache.stores.redis import reading as reader
from flask_rcache.stores.redis.bus import Bus
from flask_rcache.stores.redis.connection import pack
from flask_rcache.stores.redis.journal import Journal
from flask_rcache.stores.redis.store import RedisStore
from flask_rcache.stores.tiered import TieredStore

_ALWAYS = 2**63
_HOURS = 36_000.0


def as_of_at_fill() -> None:
    """R3: an entry's `as_of` is the clock at its fill, not at the beginning of its load."""
    fill = RedisStore.fill

    def late_fill(self: RedisStore, fills: Sequence[tuple[Grant, Draft]]) -> list[Filled]:
        seconds, micros = self._exchange(pack(("TIME",)), 1)[0]
        now = int(seconds) * 1_000_000 + int(micros)
        return fill(self, [(grant._replace(as_of=now), draft) for grant, draft in fills])

    RedisStore.fill = late_fill  # type: ignore[method-assign]


def stamps_unchecked() -> None:
    """R1: what is read is not checked."""
    reader._valid = lambda entry, members, scores: True


def lost_stamps_forgiven() -> None:
    """R1: epoch and floor are not checked, so a lost stamp set brings old entries back."""

    def forgiving(entry: Entry, members: tuple[str, ...], scores: list[float | None]) -> bool:
        stamps = dict(zip(members, scores[2:], strict=True))
        return all(as_of >= (stamps.get(tag) or 0) for tag, as_of in entry.tags)

    reader._valid = forgiving


def anyone_joins() -> None:
    """R6: whoever waited for a load takes its result, whenever they came."""
    land = Flights.land

    def generous_land(self: Flights, flight: Any, entry: Entry | None = None, **options: Any) -> None:
        land(self, flight, entry, **{**options, "good_for": _ALWAYS})

    Flights.land = generous_land  # type: ignore[method-assign]


def nothing_handed_up() -> None:
    """R3: a load knows nothing of the cached values that it read."""
    Load.hand_up = lambda self, entry, *, stale=False: None  # type: ignore[method-assign]
    Load._inherit = lambda self, child: None  # type: ignore[method-assign]


def late_tags_ignored() -> None:
    """R3: tags found out during the load are forgotten."""
    CacheManager.tag = lambda self, *tags: None  # type: ignore[method-assign]


def deaf_bus() -> None:
    """R5: messages are dropped, while the bus goes on to look alive. The hold is all that bounds what is outdated."""
    Bus._deliver = lambda self, payload: None  # type: ignore[method-assign]


def blind_trust() -> None:
    """R5: what was held is trusted after messages may have been missed. The hold bounds that too."""
    TieredStore._distrust = lambda self: None  # type: ignore[method-assign]


def endless_hold() -> None:
    """R5: no distrust, and no hold either: a message missed is missed for ever."""
    blind_trust()
    keep, recall = TieredStore._keep, TieredStore._recall

    def endless_keep(self: TieredStore, key: str, reading: Reading, sent: int, hold: float) -> None:
        keep(self, key, reading, sent, _HOURS)

    def endless_recall(self: TieredStore, key: str, now: int, hold: float) -> Reading | None:
        return recall(self, key, now, _HOURS)

    TieredStore._keep = endless_keep  # type: ignore[method-assign]
    TieredStore._recall = endless_recall  # type: ignore[method-assign]


def journal_forgotten() -> None:
    """What is journalled is never delivered."""
    Journal.add = lambda self, **noted: None  # type: ignore[method-assign]


SABOTAGES: dict[str, Callable[[], None]] = {
    each.__name__: each
    for each in (
        as_of_at_fill,
        stamps_unchecked,
        lost_stamps_forgiven,
        anyone_joins,
        nothing_handed_up,
        late_tags_ignored,
        deaf_bus,
        blind_trust,
        endless_hold,
        journal_forgotten,
    )
}
