"""Loading: a load that was admitted ends; its result is stored, shared or given up.

Owns the commit and the abandonment of loads, and what is written without one. Who may load is ``admission``'s to say;
what a failing store means for the caller is decided by ``manager``, whose ``degraded`` is called.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any, Final

from .. import signals as events
from ..errors import CodecError, StoreError
from ..model.entry import Content, Draft, Entry
from ..stores.protocol import Fill, Grant, Store
from .admission import Admission, Degraded
from .policies import Policy
from .single_flight import Load

__all__ = ["Loading", "draft_of"]

_PASS_SECONDS: Final = 2.0
_FAILED_SECONDS: Final = 2.0
_LEAST_GRACE: Final = 0.05


class Loading(Admission):
    """The loads of one manager in one process, from the look to the end.

    Args:
        store: where results are kept.
        degraded: told of every store failure.
        load_timeout: seconds one load may hold others up.
        sender: the sender of the signals.
    """

    def __init__(self, store: Store, *, degraded: Degraded, load_timeout: float, sender: Any) -> None:
        super().__init__(store, degraded=degraded, load_timeout=load_timeout)
        self._sender: Final = sender

    def commit(self, results: Sequence[tuple[Load, Draft]]) -> list[Fill | None]:
        """Store what loads produced, in one round trip, and let those who waited for them go on.

        Args:
            results: loads, each with its draft (see :func:`draft_of`).

        Returns:
            What became of each; ``None`` where no fill was tried or the store failed.
        """
        granted = [(load, draft) for load, draft in results if load.grant is not None and not load.tainted]
        sent = time.monotonic_ns()
        outcomes: dict[str, Fill | None] = {}
        if granted:
            policy = granted[0][0].policy
            began = time.monotonic()
            try:
                filled = self._store.fill([(load.grant, draft) for load, draft in granted])
            except (StoreError, CodecError) as error:
                self._degraded(policy.name, "fill", error)
                self._release([load.grant for load, _ in granted], policy)
            else:
                policy.timed("set", time.monotonic() - began)
                for (load, draft), (outcome, size) in zip(granted, filled, strict=True):
                    outcomes[load.key] = outcome
                    if outcome is Fill.STORED:
                        self._tell_stored(policy, load.key, draft, size)
                    else:
                        policy.count("refused")
        for load, draft in results:
            self._end(load, draft, sent if outcomes.get(load.key) is Fill.STORED else load.began)
        return [outcomes.get(load.key) for load, _ in results]

    def _end(self, load: Load, draft: Draft, good_for: int) -> None:
        """Count the load, and land its flight with what others may have."""
        load.policy.count("loads")
        load.policy.timed("load", draft.cost)
        load.policy.loaded(load.key, draft.cost)
        grant: Grant | None = load.grant
        epoch, as_of = (grant.epoch, grant.as_of) if grant is not None else (0, 0)
        entry = Entry.of(draft, epoch=epoch, as_of=as_of, created=as_of)
        if load.tainted:
            self.abandon(load, pass_for=_PASS_SECONDS)
        elif load.flight is not None:
            self._flights.land(load.flight, entry, good_for=good_for)
        load.grant = None

    def returned(self, load: Load) -> None:
        """A load's function has returned, and its result waits for the rest of its request.

        That may take much longer than the function did: others wait ten times as long as it took at most, and the
        lease is not renewed any more.
        """
        if load.flight is not None:
            grace = min(self._store.lease, max(_LEAST_GRACE, 10 * load.cost))
            load.flight.approach(time.monotonic() + grace)
        if load.grant is not None:
            self._store.returned(load.grant)

    def abandon(self, load: Load, *, error: Exception | None = None, pass_for: float = 0.0) -> None:
        """Give a load up: its lease is free, who waited goes on. Doing it again does nothing.

        Args:
            load: the load.
            error: what its loader raised; those who waited in this process get it too.
            pass_for: seconds in which nobody waits for loads of this key, as the result cannot be kept.
        """
        if load.grant is not None:
            grant, load.grant = load.grant, None
            failed = error is not None
            self._release([grant], load.policy, pass_for=_FAILED_SECONDS if failed else pass_for, failed=failed)
        if load.flight is not None:
            self._flights.land(load.flight, error=error)

    def moved(self, load: Load, stored: str) -> Load | None:
        """The same load with a lease for another key, or ``None`` when there is none to be had.

        Its ``as_of`` stays that of the load, which began before the lease was taken (rule R3).
        """
        if load.grant is None:
            return None
        reading = self.look(load.policy, stored, shared=True)
        if reading is None:
            return None
        begun = self._begin(load.policy, [(stored, reading.identity)], "l" + secrets.token_hex(16))[0]
        if begun is None or begun.grant is None:
            return None
        grant = begun.grant._replace(as_of=load.grant.as_of)
        if grant.epoch != load.grant.epoch:
            self._release([begun.grant], load.policy)
            return None
        return Load(stored, load.policy, grant, flight=None, began=load.began, parent=None)

    def mark(self, load: Load, draft: Draft) -> Fill | None:
        """Fill a load's key with something else than its result, which goes to another; its lease ends with it."""
        if load.grant is None:
            return None
        try:
            return self._store.fill([(load.grant, draft)])[0].outcome
        except (StoreError, CodecError) as error:
            self._degraded(load.policy.name, "fill", error)
            return None

    def abandon_many(self, policy: Policy, loads: Sequence[Load]) -> None:
        """Give up what is left of several loads without a flight, in one round trip."""
        grants = [load.grant for load in loads if load.grant is not None]
        for load in loads:
            load.grant = None
        if grants:
            self._release(grants, policy)

    def _release(self, grants: Sequence[Grant], policy: Policy, *, pass_for: float = 0.0, failed: bool = False) -> None:
        try:
            self._store.release(grants, pass_for=pass_for, failed=failed)
        except StoreError as error:
            self._degraded(policy.name, "release", error)

    def write(self, policy: Policy, drafts: dict[str, Draft]) -> bool:
        """Store values as of now, in one round trip; whether they were stored."""
        began = time.monotonic()
        try:
            sizes = self._store.write(list(drafts.items()))
        except (StoreError, CodecError) as error:
            self._degraded(policy.name, "set", error)
            return False
        policy.timed("set", time.monotonic() - began)
        for (stored, draft), size in zip(drafts.items(), sizes, strict=True):
            self._tell_stored(policy, stored, draft, size)
        return True

    def _tell_stored(self, policy: Policy, stored: str, draft: Draft, size: int) -> None:
        policy.count("stored")
        policy.count("stored_bytes", size)
        if events.cache_stored.receivers:
            event = events.Stored(policy.name, stored, draft.ttl, size, draft.cost)
            events.emit(events.cache_stored, self._sender, event)


def draft_of(
    load: Load,
    content: Content,
    *,
    ttl: float,
    stale_while_revalidate: float | None = None,
    stale_if_error: float | None = None,
) -> Draft:
    """What a load produced, with all that it depends on.

    Args:
        load: the load, which has ended.
        content: the encoded value or the response.
        ttl: seconds it is fresh.
        stale_while_revalidate: seconds; the type's when left out.
        stale_if_error: seconds; the type's when left out.
    """
    cache_type = load.policy.type
    swr, sie = stale_while_revalidate, stale_if_error
    return Draft(
        content=content,
        ttl=ttl,
        stale_while_revalidate=cache_type.stale_while_revalidate if swr is None else swr,
        stale_if_error=cache_type.stale_if_error if sie is None else sie,
        tags=tuple(dict.fromkeys((load.policy.member, *load.tags))),
        handed=tuple(load.handed.items()),
        cost=load.cost,
    )
