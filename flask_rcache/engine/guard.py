"""The guarded store: the one place where a failing store becomes "carry on without the cache".

Owns the calls of the hot half that the engine makes, each with its failure counted and announced. ``None`` stands for a
store that is away. What is done without the cache is the caller's to say.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Final

from ..errors import CodecError, StoreError
from ..model.entry import Draft, Moment
from ..model.scope import scope_var
from ..stores.protocol import Begun, Filled, LoadedResult, Lookup, Outcome, PartialError, Store, Want
from .loading import Load
from .observer import Observer
from .policies import Policy

__all__ = ["GuardedStore", "withheld"]

_result_of: Final = itemgetter(1)


class GuardedStore:
    """A store whose failures never reach the caller.

    Args:
        store: the store.
        observer: takes the failures, and what was stored.
    """

    __slots__ = ("_observer", "store")

    def __init__(self, store: Store, observer: Observer) -> None:
        self.store: Final = store
        self._observer: Final = observer

    def read(self, policy: Policy, key: str, tags: tuple[str, ...], *, shared: bool = False) -> Lookup | None:
        """Look up one key; with ``shared`` the memory tier is left out."""
        try:
            lookup = self.store.read(key, tags, 0.0 if shared else policy.l1_ttl)
        except StoreError as error:
            self.failed(policy.name, "lookup", error)
            return None
        if lookup.error is not None:
            self.failed(policy.name, "lookup", lookup.error)
        scope = scope_var.get()
        return lookup if scope is None or not scope.uncommitted else withheld(lookup)

    def read_many(self, policy: Policy, keys: Sequence[str], tags: tuple[str, ...]) -> list[Lookup | None]:
        """Look up several keys in one round trip."""
        try:
            return [withheld(lookup) for lookup in self.store.read_many(keys, tags, policy.l1_ttl)]
        except StoreError as error:
            self.failed(policy.name, "lookup", error)
            return [None if lookup is None else withheld(lookup) for lookup in _answers(error, len(keys))]

    def begin(self, policy: Policy, wants: Sequence[Want], token: str, moment: Moment | None) -> Sequence[Begun | None]:
        """Ask for leases."""
        try:
            return self.store.begin(wants, token, moment)
        except StoreError as error:
            self.failed(policy.name, "begin", error)
            return _answers(error, len(wants))

    def fill(self, policy: Policy, results: Sequence[tuple[Load, LoadedResult]]) -> list[Filled | None]:
        """Store what leased loads produced; their leases end in any case."""
        began = time.monotonic()
        filled: list[Filled | None]
        try:
            filled = list(self.store.fill(list(map(_result_of, results))))
        except (StoreError, CodecError) as error:
            self.failed(policy.name, "fill", error)
            filled = _answers(error, len(results))
            self.release(policy, [load for (load, _), answer in zip(results, filled, strict=True) if answer is None])
        else:
            policy.counters.timed("set", time.monotonic() - began)
        for (load, result), answer in zip(results, filled, strict=True):
            if answer is not None:
                load.lease = None
                self._report(policy, result.lease.key, result.draft, answer)
        return filled

    def write(
        self,
        policy: Policy,
        writes: Sequence[tuple[str, Draft]],
        moment: Moment | None,
        expected: Sequence[bytes] | None = None,
    ) -> list[Filled | None]:
        """Store values without a lease."""
        began = time.monotonic()
        written: list[Filled | None]
        try:
            written = list(self.store.write(writes, moment, expected))
        except (StoreError, CodecError) as error:
            self.failed(policy.name, "set", error)
            written = _answers(error, len(writes))
        else:
            policy.counters.timed("set", time.monotonic() - began)
        for (key, draft), answer in zip(writes, written, strict=True):
            if answer is not None:
                self._report(policy, key, draft, answer)
        return written

    def release(self, policy: Policy, loads: Sequence[Load], *, pass_for: float = 0.0, failed: bool = False) -> None:
        """Give leases back; loads without one are left out."""
        leases = [load.lease for load in loads if load.lease is not None]
        for load in loads:
            load.lease = None
        if leases:
            try:
                self.store.release(leases, pass_for=pass_for, failed=failed)
            except StoreError as error:
                self.failed(policy.name, "release", error)

    def drop(self, policy: Policy, keys: Sequence[str]) -> None:
        """Remove entries that make room; they are no more wrong than before, so nothing is stamped."""
        try:
            self.store.delete(keys, is_stamped=False)
        except StoreError as error:
            self.failed(policy.name, "delete", error)

    def failed(self, type_name: str, operation: str, error: Exception) -> None:
        """An operation goes on without the cache."""
        self._observer.failed(type_name, operation, error, self.store.incident)

    def _report(self, policy: Policy, key: str, draft: Draft, answer: Filled) -> None:
        if answer.outcome in (Outcome.STORED, Outcome.SENT):
            self._observer.stored(policy, key, draft, answer.size)
        elif answer.outcome is not Outcome.CONFLICT:
            self._observer.refused(policy)


def withheld(lookup: Lookup) -> Lookup:
    """The lookup; without its entry when that depends on what this context has written and not committed."""
    scope = scope_var.get()
    if scope is None or not scope.uncommitted or lookup.entry is None:
        return lookup
    if not scope.is_uncommitted([tag for tag, _ in lookup.entry.tags]):
        return lookup
    return Lookup(None, lookup.now, lookup.identity, "uncommitted", lookup.size)


def _answers(error: Exception, number: int) -> list[Any]:
    """What was answered all the same: of several shards, those that are there."""
    return list(error.answers) if isinstance(error, PartialError) else [None] * number
