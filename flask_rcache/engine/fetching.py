"""The value API for what may have to be loaded: ``fetch`` and ``afetch``.

Owns the run of a loader and what is kept of it, in the call and in the background. Who loads and who waits is
``admission``'s; several keys at once are ``many``'s.
"""

from __future__ import annotations

import asyncio
import random
import time
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, TypeVar

from ..model.cache_type import CacheType, check_tags
from ..model.entry import Freshness
from ..model.keys import Key, user_tag
from ..stores.protocol import Reading
from . import tracing
from .admission import Served, stand_in
from .loading import draft_of
from .policies import Policy
from .refresher import Refresher
from .single_flight import Load, current_load, keys_under_way
from .telling import Miss
from .values import MISSING, Values
from .waiting import drive, drive_async

__all__ = ["Fetching", "members_of"]

T = TypeVar("T")
K = TypeVar("K", bound=Key)

_PASS_SECONDS: Final = 2.0


class Fetching(Values):
    """The part of a cache manager that loads values."""

    refresher: Refresher
    enter: Callable[[], AbstractContextManager[Any]]

    @property
    @abstractmethod
    def tracer(self) -> tracing.Tracer | None:
        """Makes a span around each look-up; ``None`` for none."""

    def fetch(
        self,
        cache_type: CacheType | str,
        key: Key,
        loader: Callable[[], T],
        *,
        ttl: float | None = None,
        tags: Iterable[str] = (),
    ) -> T:
        """The value of a key, loaded once in the whole fleet when it is not there.

        Args:
            cache_type: the type, or its registered name.
            key: a str, an int or a tuple of plain values.
            loader: gives the value; cached values it reads hand their tags up, and :meth:`tag` adds some.
            ttl: seconds; the type's when left out.
            tags: labels by which it can be invalidated.

        Raises:
            ConfigError: the type, key, ttl or tags are not usable.
            Exception: whatever ``loader`` raises; nothing is stored then.
        """
        policy, stored, members = self._wanted(cache_type, key, ttl, tags)
        if self.tracer is None:
            return self._fetch(policy, stored, members, loader)
        with tracing.span(self.tracer, policy.name):
            return self._fetch(policy, stored, members, loader)

    def _fetch(self, policy: Policy, stored: str, members: dict[str, None], loader: Callable[[], T]) -> T:
        if not self.enabled:
            self.bypassed(policy)
            return loader()
        arrived = time.monotonic_ns()
        reading = self.loading.look(policy, stored)
        value, old = self._servable(policy, stored, reading, arrived)
        if value is not MISSING:
            if old:
                self._refresh(policy, stored, reading, lambda load: self._run(policy, load, members, loader))
            return value  # type: ignore[no-any-return]
        with Miss(policy, reading) as miss:
            admitted = _own(policy, stored, reading) or drive(self.loading.admit(policy, stored, reading, arrived))
            if isinstance(admitted, Served):
                miss.stale = admitted.stale
                value = self._shared(policy, admitted)
                return loader() if value is MISSING else value
            try:
                return self._run(policy, admitted, members, loader)
            except Exception:
                value = self._salvaged(policy, admitted)
                miss.stale = admitted.fallback is not None
                if value is MISSING:
                    raise
                return value  # type: ignore[no-any-return]

    async def afetch(
        self,
        cache_type: CacheType | str,
        key: Key,
        loader: Callable[[], Awaitable[T]],
        *,
        ttl: float | None = None,
        tags: Iterable[str] = (),
    ) -> T:
        """:meth:`fetch` with an async loader; waiting for another's load does not hold up the event loop."""
        policy, stored, members = self._wanted(cache_type, key, ttl, tags)
        if self.tracer is None:
            return await self._afetch(policy, stored, members, loader)
        with tracing.span(self.tracer, policy.name):
            return await self._afetch(policy, stored, members, loader)

    async def _afetch(
        self, policy: Policy, stored: str, members: dict[str, None], loader: Callable[[], Awaitable[T]]
    ) -> T:
        if not self.enabled:
            self.bypassed(policy)
            return await loader()
        arrived = time.monotonic_ns()
        reading = self.loading.look(policy, stored)
        value, old = self._servable(policy, stored, reading, arrived)
        if value is not MISSING:
            if old:
                self._refresh(
                    policy, stored, reading, lambda load: asyncio.run(self._arun(policy, load, members, loader))
                )
            return value  # type: ignore[no-any-return]
        with Miss(policy, reading) as miss:
            own = _own(policy, stored, reading)
            steps = self.loading.admit(policy, stored, reading, arrived)
            admitted = own if own is not None else await drive_async(steps)
            if isinstance(admitted, Served):
                miss.stale = admitted.stale
                value = self._shared(policy, admitted)
                return await loader() if value is MISSING else value
            try:
                return await self._arun(policy, admitted, members, loader)
            except Exception:
                value = self._salvaged(policy, admitted)
                miss.stale = admitted.fallback is not None
                if value is MISSING:
                    raise
                return value  # type: ignore[no-any-return]

    # Behind the API

    def _wanted(
        self, cache_type: CacheType | str, key: Key, ttl: float | None, tags: Iterable[str]
    ) -> tuple[Policy, str, dict[str, None]]:
        policy = self._value_policy(cache_type, ttl)
        return policy, self.names.stored(policy.name, key, hashed=False), members_of(tags)

    def _servable(self, policy: Policy, stored: str, reading: Reading | None, since: int) -> tuple[Any, bool]:
        """The value of a reading that may be served, and whether it is to be refreshed meanwhile.

        Inside a load nothing stale is served: what the load produced could not be stored then.
        """
        entry = reading.entry if reading is not None else None
        if entry is None or reading is None:
            self.missed(policy, stored, reading, settled=False)
            return MISSING, False
        state = entry.freshness(reading.now)
        stale = state is Freshness.STALE and current_load() is None
        value = self._value(policy, entry) if stale or state is Freshness.FRESH else MISSING
        if value is MISSING:
            self.missed(policy, stored, reading, settled=False)
            return MISSING, False
        self.hit(policy, stored, reading, since, stale=stale)
        return value, stale or policy.early(entry, reading.now, random.random())

    def _refresh(self, policy: Policy, stored: str, reading: Reading | None, run: Callable[[Load], object]) -> None:
        """Load a key anew in the background, once in the fleet."""

        def job() -> bool:
            load = self.loading.take(policy, stored, reading)
            if load is not None:
                try:
                    policy.count("refreshes")
                    with self.enter():
                        run(load)
                finally:  # also when it has not come to the run, which ends the load else
                    self.loading.abandon(load)
            return True

        self.refresher.submit(stored, job)

    def _run(self, policy: Policy, load: Load, members: dict[str, None], loader: Callable[[], T]) -> T:
        """Run a loader and keep what it gives; however it ends, the load's lease and flight do too."""
        load.tags.update(members)
        with self._concluding(load):
            with load:
                loaded = loader()
            self._keep(policy, [(load, loaded)])
        return loaded

    async def _arun(
        self, policy: Policy, load: Load, members: dict[str, None], loader: Callable[[], Awaitable[T]]
    ) -> T:
        """:meth:`_run` for an async loader."""
        load.tags.update(members)
        with self._concluding(load):
            with load:
                loaded = await loader()
            self._keep(policy, [(load, loaded)])
        return loaded

    def _shared(self, policy: Policy, served: Served) -> Any:
        """The value of another's load, or a stale one."""
        self.shared(policy, served)
        return self._value(policy, served.entry)

    def _salvaged(self, policy: Policy, load: Load) -> Any:
        """The expired value that stands in when a loader fails (``stale_if_error``)."""
        return MISSING if load.fallback is None else self._shared(policy, Served(load.fallback, stale=True))

    @contextmanager
    def _concluding(self, load: Load) -> Iterator[None]:
        """However the load ends, its lease and its flight do too."""
        try:
            yield
        except Exception as error:
            self.loading.abandon(load, error=error)
            raise
        finally:
            self.loading.abandon(load)

    def _keep(self, policy: Policy, loaded: list[tuple[Load, Any]]) -> None:
        """Store what loads produced; what cannot be kept is given up, and nobody waits for it for a while."""
        results = []
        for load, value in loaded:
            content = self._encoded(policy, value)
            if content is None:
                self.loading.abandon(load, pass_for=_PASS_SECONDS)
            else:
                results.append((load, draft_of(load, content, ttl=policy.lifetime(load.cost, random.random()))))
        if results:
            self.loading.commit(results)


def _own(policy: Policy, stored: str, reading: Reading | None) -> Load | None:
    """The load of a key inside a loader of this very key: it waits for nobody, and what it gives is not stored."""
    parent = current_load()
    if parent is None or stored not in keys_under_way():
        return None
    began = time.monotonic_ns()
    return Load(stored, policy, None, flight=None, began=began, parent=parent, fallback=stand_in(reading))


def members_of(tags: Iterable[str]) -> dict[str, None]:
    """The stamp members of tags, as a load takes them."""
    return dict.fromkeys(map(user_tag, check_tags(tags)))
