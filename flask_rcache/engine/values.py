"""Values that are known: ``get``, ``set``, ``add``, ``incr`` and their many-forms.

Owns the way of a value from the call to the store and back, without a load. Loading what is not there is
``fetching``'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ..model.entry import Draft, Entry, Moment
from ..model.scope import scope_of
from ..stores.protocol import Lookup, Outcome
from .calls import MISSING, Call
from .decision import fresh
from .fetching import Fetching
from .guard import GuardedStore
from .loading import current_load, depend_on, record_read
from .observer import Observer
from .policies import Policy

__all__ = ["Values"]

#: A counter that so many writers change at once is given up; each try that fails is another's success.
_TRIES: Final = 200


class Values:
    """Reads and writes values.

    Args:
        guarded: the store.
        fetching: decodes and encodes.
        observer: takes what happened.
    """

    __slots__ = ("_fetching", "_guarded", "_observer")

    def __init__(self, guarded: GuardedStore, fetching: Fetching, observer: Observer) -> None:
        self._guarded: Final = guarded
        self._fetching: Final = fetching
        self._observer: Final = observer

    def get(self, policy: Policy, key: str) -> Any:
        """The fresh value of a key, or ``MISSING``."""
        return self._taken(policy, key, self._guarded.read(policy, key, policy.tags))

    def get_many(self, policy: Policy, keys: Iterable[str]) -> dict[str, Any]:
        """The fresh values of those keys that have one."""
        asked = list(keys)
        if not asked:
            return {}
        lookups = self._guarded.read_many(policy, asked, policy.tags)
        values = {key: self._taken(policy, key, lookup) for key, lookup in zip(asked, lookups, strict=True)}
        return {key: value for key, value in values.items() if value is not MISSING}

    def _taken(self, policy: Policy, key: str, lookup: Lookup | None) -> Any:
        value = self._fetching.value(policy, lookup)
        if value is not MISSING and lookup is not None and lookup.entry is not None:
            self._observer.hit(policy, key, lookup)
            record_read(self._guarded.store, lookup.entry)
            return value
        self._observer.missed(policy, key, lookup)
        if current_load() is not None:  # that it was not there is an answer too, until its type is invalidated
            depend_on(self._guarded.store, policy.tags, self.moment())
        return MISSING

    def moment(self) -> Moment | None:
        """Up to when what this context has read is known to reflect the source (rule R3.2)."""
        store = self._guarded.store
        scope = scope_of(store)
        if scope is not None:
            return scope.moment
        return store.moment or store.hear()

    def set(self, call: Call, values: Mapping[str, object], *, is_last: bool = False) -> list[str]:
        """Store values as loads that end at once; the keys that were not stored.

        Where an older value may still lie under such a key, it is the caller's to remove.

        Args:
            call: of all of them.
            values: by stored key.
            is_last: whether they are as of the write itself, so that no invalidation has overtaken them.

        Raises:
            EncodeError: under ``RCACHE_STRICT``.
        """
        drafts = self._drafts(call, values)
        moment = None if is_last else self.moment()
        if (moment is None and not is_last) or not drafts:
            return list(values)
        written = self._guarded.write(call.policy, list(drafts.items()), moment)
        stored = {
            key
            for key, answer in zip(drafts, written, strict=True)
            if answer and answer.outcome in (Outcome.STORED, Outcome.SENT)
        }
        if any(answer is not None and answer.outcome is Outcome.OVERTAKEN for answer in written):
            self._observer.warn_once(
                f"overtaken/{call.policy.name}",
                "set() in cache type %r was not stored: an invalidation of its tags came after this request began, and "
                "the value may be older; call current_cache.fresh() after the commit",
                call.policy.name,
            )
        return [key for key in values if key not in stored]

    def _drafts(self, call: Call, values: Mapping[str, object]) -> dict[str, Draft]:
        encoded = {key: self._fetching.encoded(call, key, value) for key, value in values.items()}
        return {key: call.draft(content, values[key]) for key, content in encoded.items() if content is not None}

    def add(self, call: Call, key: str, value: object) -> bool:
        """Store a value where no fresh one lies; atomic across processes."""
        for _ in range(_TRIES):
            lookup = self._guarded.read(call.policy, key, call.policy.tags, shared=True)
            if lookup is None or fresh(lookup) is not None:
                return False
            self._observer.unreadable(call.policy, key, lookup.reason)
            outcome = self._swap(call, key, lookup, self._drafts(call, {key: value}).get(key))
            if outcome is not Outcome.CONFLICT:
                return outcome is Outcome.STORED
        return False

    def incr(self, call: Call, key: str, delta: int, initial: int) -> int:
        """Add to an integer, from ``initial`` where none lies; atomic across processes. Its ttl counts from the first.

        Returns:
            The new value; ``initial + delta`` when the store is away.

        Raises:
            TypeError: another value lies there.
        """
        for _ in range(_TRIES):
            lookup = self._guarded.read(call.policy, key, call.policy.tags, shared=True)
            if lookup is None:
                break
            self._observer.unreadable(call.policy, key, lookup.reason)
            entry = fresh(lookup)
            value = initial if entry is None else self._integer(call, key, lookup)
            draft = self._drafts(call, {key: value + delta}).get(key)
            if draft is not None and entry is not None:
                draft = _with_ttl_of(draft, entry, lookup.now)
            outcome = self._swap(call, key, lookup, draft)
            if outcome is Outcome.STORED:
                return value + delta
            if outcome is not Outcome.CONFLICT:
                break
        return initial + delta

    def _integer(self, call: Call, key: str, lookup: Lookup) -> int:
        value = self._fetching.value(call.policy, lookup)
        if isinstance(value, bool) or not isinstance(value, int):
            kind = "nothing that can be read" if value is MISSING else type(value).__name__
            raise TypeError(f"incr needs an integer under {key}, and there is {kind}: delete it first")
        return value

    def _swap(self, call: Call, key: str, lookup: Lookup, draft: Draft | None) -> Outcome | None:
        """Replace what was looked up, and nothing else."""
        if draft is None:
            return None
        answer = self._guarded.write(call.policy, [(key, draft)], None, [lookup.identity])[0]
        return None if answer is None else answer.outcome


def _with_ttl_of(draft: Draft, entry: Entry, now: int) -> Draft:
    """The draft, which expires when the entry does."""
    left = max(entry.ttl - entry.age(now), 0.001)
    return Draft(draft.content, left, draft.stale_while_revalidate, draft.stale_if_error, tags=draft.tags)
