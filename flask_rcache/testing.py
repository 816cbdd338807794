"""A pytest plugin for apps that cache: a cache of its own for each test, a clock to turn, what happened, and outages.

Load it in the ``conftest.py`` at the root of the tests::

    pytest_plugins = ["flask_rcache.testing"]

Owns the fixtures and the assertions about responses. While the plugin is loaded, the store of each app that is made can
be exchanged; a test without one of the fixtures uses the app's own. Nothing else in the package needs pytest.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Final, cast
from weakref import WeakSet

import pytest
from blinker import NamedSignal

from . import extension, signals
from .config.settings import Settings
from .errors import StoreUnavailableError
from .http.reasons import Reason
from .model.keys import Names
from .stores.memory import MemoryStore
from .stores.protocol import Incident, Store

__all__ = [
    "Chaos",
    "Clock",
    "IsolatedCache",
    "Recorded",
    "assert_bypass",
    "assert_hit",
    "assert_miss",
    "assert_stale",
    "rcache",
    "rcache_chaos",
    "rcache_clock",
    "rcache_events",
]

#: Bytes of a store in memory where an app has no memory tier.
_MEMORY: Final = 64 * 1024 * 1024
#: What a store that is away still answers: it needs no server for that.
_NEEDS_NO_SERVER: Final = frozenset(
    {"close", "count_from", "incident", "lease_seconds", "location", "queues", "returned", "state"}
)
#: What is carried out once it is back, as the journal does.
_CARRIED_OUT_LATER: Final = frozenset({"delete", "invalidate", "invalidate_pattern", "settle", "withdraw"})


# --- What a test turns


class Clock:
    """The clock of the stores of a test: it runs until it is frozen, and is moved on by hand in either case."""

    def __init__(self) -> None:
        self._offset = time.time_ns() - time.monotonic_ns()
        self._frozen_at: int | None = None

    def __call__(self) -> int:
        """The time in µs."""
        running = time.monotonic_ns() if self._frozen_at is None else self._frozen_at
        return (running + self._offset) // 1000

    def freeze(self) -> None:
        """Let no time pass by itself any more."""
        if self._frozen_at is None:
            self._frozen_at = time.monotonic_ns()

    def tick(self, seconds: float | timedelta) -> None:
        """Let time pass: entries age and expire. Nothing waits.

        Args:
            seconds: how much, not negative.
        """
        amount = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
        if amount < 0:
            raise ValueError(f"a store's clock never goes back: tick() takes 0 or more seconds, not {amount}")
        self._offset += int(amount * 1_000_000_000)


class Chaos:
    """Makes the stores of a test unavailable, as a Redis is that refuses or does not answer.

    Meanwhile views and loaders run, nothing is cached, and invalidations are kept; they are made when it is back.
    """

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._number = 0
        self._hangs = False
        self._later: Final[list[Callable[[], object]]] = []
        self.incident: Incident | None = None

    def fail(self) -> None:
        """Let every question fail at once, as when the server is not there."""
        self._begin("Connection refused", hangs=False)

    def hang(self) -> None:
        """Let the next question wait for ``RCACHE_TIMEOUT`` and fail, and those after it fail at once."""
        self._begin("Timeout reading from the server", hangs=True)

    def _begin(self, why: str, *, hangs: bool) -> None:
        with self._lock:
            self._number += 1
            cause = StoreUnavailableError(f"{why} (by flask_rcache.testing)")
            self.incident = Incident(self._number, cause, since=time.time())
            self._hangs = hangs

    def heal(self) -> None:
        """Let everything be answered again; what was invalidated meanwhile is invalidated first."""
        with self._lock:
            later, self._later[:] = list(self._later), []
            for call in later:
                call()
            self.incident = None

    def ask(self, name: str, call: Callable[[], Any], timeout: float) -> Any:
        """Answer, or fail as it is to fail."""
        incident = self.incident
        if incident is None:
            return call()
        if name in ("hear", "recall"):  # which do not fail: they know nothing
            return None
        with self._lock:
            waits, self._hangs = self._hangs, False
            if name in _CARRIED_OUT_LATER:
                self._later.append(call)
        if waits:
            time.sleep(timeout)
        raise incident.cause


class Recorded:
    """What the caches of a test have announced, in its order: the events of :mod:`flask_rcache.signals`."""

    _SIGNALS: Final = {
        "hits": signals.cache_hit,
        "stale": signals.cache_stale,
        "misses": signals.cache_miss,
        "stored": signals.cache_stored,
        "invalidations": signals.cache_invalidated,
        "errors": signals.cache_error,
        "events": signals.cache_event,
        "audited": signals.cache_audited,
    }

    def __init__(self) -> None:
        self.all: Final[list[tuple[str, Any]]] = []
        self._receivers: Final[list[tuple[NamedSignal, Callable[..., None]]]] = []
        for kind, signal in self._SIGNALS.items():
            receiver = self._receiver(kind)
            signal.connect(receiver, weak=False)
            self._receivers.append((signal, receiver))

    def _receiver(self, kind: str) -> Callable[..., None]:
        def receive(_: object, event: Any) -> None:
            self.all.append((kind, event))

        return receive

    def of(self, kind: str) -> list[Any]:
        """The events of a kind: those that have an attribute here, ``"events"`` (an app's own) or ``"audited"``."""
        if kind not in self._SIGNALS:
            raise ValueError(f"there are events of the kinds {', '.join(self._SIGNALS)}, and none of {kind!r}")
        return [event for name, event in self.all if name == kind]

    @property
    def hits(self) -> list[signals.Hit]:
        """Fresh entries that were served."""
        return self.of("hits")

    @property
    def stale(self) -> list[signals.Hit]:
        """Expired entries that were served."""
        return self.of("stale")

    @property
    def misses(self) -> list[signals.Miss]:
        """Lookups that found nothing to serve, with the reason of each."""
        return self.of("misses")

    @property
    def stored(self) -> list[signals.Stored]:
        """Results that were stored."""
        return self.of("stored")

    @property
    def invalidations(self) -> list[signals.Invalidation]:
        """What was invalidated, and what it removed."""
        return self.of("invalidations")

    @property
    def errors(self) -> list[signals.CacheError]:
        """Operations that went on without the cache."""
        return self.of("errors")

    def clear(self) -> None:
        """Forget what was recorded."""
        self.all.clear()

    def stop(self) -> None:
        """Record nothing more."""
        for signal, receiver in self._receivers:
            signal.disconnect(receiver)


# --- Stores that can be exchanged


class _ExchangeableStore:
    """The store of one app: its own, or the one of the test that runs."""

    def __init__(self, settings: Settings, own: Store) -> None:
        self._settings: Final = settings
        self._own: Final = own
        self._target: Any = own

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def checked(self, key: str, l1_ttl: float) -> None:
        """See :meth:`Store.checked`: the store may be another one at any time."""

    def isolate(self, cache: IsolatedCache) -> None:
        """Use an empty store in memory."""
        settings = self._settings
        memory = MemoryStore(Names(settings.prefix), max_bytes=settings.l1_bytes or _MEMORY, clock=cache.clock)
        self._target = _FragileStore(memory, cache.chaos, settings.timeout)

    def give_back(self) -> None:
        """Use the app's own again."""
        self._target = self._own


class _FragileStore:
    """A store whose answers :class:`Chaos` may keep back."""

    def __init__(self, inner: MemoryStore, chaos: Chaos, timeout: float) -> None:
        self._inner: Final = inner
        self._chaos: Final = chaos
        self._timeout: Final = timeout

    @property
    def catalogue(self) -> _FragileStore:
        """See :attr:`Store.catalogue`: the store in memory is its own."""
        return self

    @property
    def incident(self) -> Incident | None:
        """See :attr:`Store.incident`."""
        return self._chaos.incident

    @property
    def moment(self) -> Any:
        """See :attr:`Store.moment`: what was heard before an outage does not count in it."""
        return None if self._chaos.incident is not None else self._inner.moment

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name in _NEEDS_NO_SERVER or not callable(found):
            return found
        return lambda *args, **kwargs: self._chaos.ask(name, lambda: found(*args, **kwargs), self._timeout)


class IsolatedCache:
    """The caches of a test: empty at its beginning, in memory, and shared with no other test.

    Attributes:
        clock: of their stores.
        chaos: makes them unavailable.
    """

    def __init__(self) -> None:
        self.clock: Final = Clock()
        self.chaos: Final = Chaos()

    def tick(self, seconds: float | timedelta) -> None:
        """See :meth:`Clock.tick`."""
        self.clock.tick(seconds)


#: The stores of the apps that were made since the plugin was loaded, and the cache of the test that runs.
_stores: Final[WeakSet[_ExchangeableStore]] = WeakSet()
_present: Final[list[IsolatedCache]] = []
_store_of: Final = extension.store_of


def _exchangeable(settings: Settings) -> Store:
    store = _ExchangeableStore(settings, _store_of(settings))
    _stores.add(store)
    if _present:
        store.isolate(_present[-1])
    return cast(Store, store)


def pytest_configure() -> None:
    """Have the stores of apps that are made from now on exchangeable."""
    extension.store_of = _exchangeable


def pytest_unconfigure() -> None:
    """Leave everything as it was."""
    extension.store_of = _store_of


# --- Fixtures


@pytest.fixture
def rcache() -> Iterator[IsolatedCache]:
    """The cache of every app is an empty one in memory during the test, whatever ``RCACHE_URL`` says.

    It applies to apps that the test makes and to those that live longer, such as one of a fixture for the session.
    """
    cache = IsolatedCache()
    _present.append(cache)
    for store in list(_stores):
        store.isolate(cache)
    yield cache
    _present.remove(cache)
    for store in list(_stores):
        store.give_back()


@pytest.fixture
def rcache_clock(rcache: IsolatedCache) -> Clock:
    """The clock of :func:`rcache`, frozen: ``tick(seconds)`` lets entries age and expire."""
    rcache.clock.freeze()
    return rcache.clock


@pytest.fixture
def rcache_chaos(rcache: IsolatedCache) -> Iterator[Chaos]:
    """Makes the store of :func:`rcache` unavailable: ``fail()``, ``hang()`` and ``heal()``."""
    yield rcache.chaos
    rcache.chaos.heal()


@pytest.fixture
def rcache_events() -> Iterator[Recorded]:
    """What caches have announced during the test: ``hits``, ``misses``, ``stored``, ``invalidations``, ``errors``."""
    recorded = Recorded()
    yield recorded
    recorded.stop()


# --- Assertions


def assert_hit(response: Any) -> None:
    """The response came from the cache, and is fresh; else the message says why it did not.

    Args:
        response: of a test client, ``requests`` or ``httpx``.
    """
    __tracebackhide__ = True
    _assert(response, "HIT")


def assert_stale(response: Any) -> None:
    """The response came from the cache although it has expired."""
    __tracebackhide__ = True
    _assert(response, "STALE")


def assert_miss(response: Any, *, stored: bool | None = None) -> None:
    """The view ran, since nothing could be served.

    Args:
        response: as for :func:`assert_hit`.
        stored: whether its answer was stored; ``None`` when that does not matter.
    """
    __tracebackhide__ = True
    _assert(response, "MISS")
    detail = _detail(response)
    if stored is True and detail:
        pytest.fail(f"the answer was to be stored, and was not: {_described(response)}", pytrace=True)
    if stored is False and not detail:
        pytest.fail(f"the answer was not to be stored, and was: {_described(response)}", pytrace=True)


def assert_bypass(response: Any, detail: str | None = None) -> None:
    """The request did not use the cache.

    Args:
        response: as for :func:`assert_hit`.
        detail: the reason that it must have in ``Cache-Status``, such as ``"AUTHORIZATION"``.
    """
    __tracebackhide__ = True
    _assert(response, "BYPASS")
    if detail is not None and _detail(response) != detail:
        pytest.fail(f"the reason was to be {detail}: {_described(response)}", pytrace=True)


def _assert(response: Any, expected: str) -> None:
    __tracebackhide__ = True
    found = response.headers.get("X-Cache")
    if found is None:
        pytest.fail(
            f"{expected} expected, and the response has no X-Cache: its view is not decorated with @cache_response, "
            f"the decorator is above the route, or something else has answered (status {response.status_code})",
            pytrace=True,
        )
    if found != expected:
        pytest.fail(f"{expected} expected, and it is a {found}: {_described(response)}", pytrace=True)


def _detail(response: Any) -> str:
    """The reason in ``Cache-Status``; empty when there is none."""
    status = str(response.headers.get("Cache-Status", ""))
    _, found, rest = status.partition("detail=")
    return rest.partition(";")[0].strip().strip('"').partition(" ")[0] if found else ""


def _described(response: Any) -> str:
    status, detail = response.headers.get("Cache-Status", "no Cache-Status"), _detail(response)
    known = {reason.value: reason.sentence for reason in Reason}
    return f"{status}. {known[detail]}" if detail in known else str(status)
