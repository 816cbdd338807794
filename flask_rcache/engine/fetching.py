"""Values that may have to be loaded.

Owns the run of a loader, what is kept of it in the call and in the background, and the memory of what can't be stored.
Who loads and who waits is ``load``'s, how a load is driven ``driving``'s.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, Final, NoReturn, TypeVar, cast

from ..codec import Errors, Raised, ValueCodec, is_raised
from ..config.settings import Settings
from ..errors import CodecError, EncodeError
from ..model import chance
from ..model.bounded import BoundedDict
from ..model.entry import Draft, Entry
from ..stores.protocol import Lookup
from .calls import MISSING, NEVER, Block, Call
from .decision import Decision, decide, fresh
from .driving import Driver
from .guard import GuardedStore, withheld
from .load import Done, Loaded, Reader, load
from .loading import Load, Patience, current_load, depend_on, record_read
from .observer import Observer
from .policies import Policy
from .refresher import Refresher

# asyncio is imported where it is used: a process without async views and functions never needs it.

__all__ = ["Fetching"]

T = TypeVar("T")

_UNSTORABLE_KEPT: Final = 10_000
#: Seconds after which a result that could not be stored is tried again.
_UNSTORABLE_SECONDS: Final = 60.0


class Fetching:
    """Loads values, once for each key.

    Args:
        guarded: the store.
        driver: of its loads.
        observer: takes what happened.
        settings: of the app.
        codec: values to bytes and back.
        refresher: runs background refreshes.
    """

    def __init__(
        self,
        guarded: GuardedStore,
        driver: Driver,
        observer: Observer,
        *,
        settings: Settings,
        codec: ValueCodec,
        refresher: Refresher,
    ) -> None:
        self._guarded: Final = guarded
        self._store: Final = guarded.store
        self._driver: Final = driver
        self._observer: Final = observer
        self._settings: Final = settings
        self.codec: Final = codec
        self._refresher: Final = refresher
        #: Around a loader: gives what it has read of who is asking, as messages name it. Of the layers above.
        self.identities_read: Callable[[], AbstractContextManager[Callable[[], str]]] = _nobody_asks
        self._unstorable: Final[BoundedDict[str, float]] = BoundedDict(_UNSTORABLE_KEPT)

    # One key

    def fetch(self, call: Call, key: str, loader: Callable[[], T]) -> T:
        """The value of a key, loaded once in all processes when it is not there."""
        if key in self._unstorable and self._is_unstorable(call, key):
            return loader()
        began = time.monotonic_ns()
        policy = call.policy
        lookup = self._guarded.read(policy, key, call.all_tags if call.tags else policy.tags)
        value, decision = self._served(call, key, lookup, began)
        if value is not MISSING:
            if decision is not Decision.HIT:
                self._refresh(call, key, lookup, loader)
            return cast(T, value if type(value) is not Raised else _raise(value))
        run = _LoaderRun(self, call, lambda _: {key: loader()})
        with self._counted(policy):
            done = self._driver.drive(*self._driver.begin(call, {key: lookup}, began), run.loader)
        return cast(T, self._result(call, key, lookup, done, run, loader))

    @contextmanager
    def block(self, call: Call, key: str) -> Iterator[Block]:
        """:meth:`fetch` where the loader is the block of a ``with`` statement.

        Nothing stands in for a block that raises, and none is run in the background: a type with
        ``stale_while_revalidate`` is loaded when it has expired.
        """
        if key in self._unstorable and self._is_unstorable(call, key):
            yield Block(MISSING)
            return
        began = time.monotonic_ns()
        lookup = self._guarded.read(call.policy, key, call.all_tags)
        value = self.value(call.policy, lookup)
        if value is not MISSING:
            assert lookup is not None
            self._hit(call.policy, key, lookup)
            yield Block(value)
            return
        self._observer.announce_miss(call.policy, key, lookup)
        block, run = Block(MISSING), _LoaderRun(self, call, lambda _: {})
        steps, terms = self._driver.begin(call, {key: lookup}, began, shares_errors=False)
        with self._driver.ending(steps, terms) as held:
            with self._counted(call.policy):
                found = self._driver.advance(steps, terms)
            if isinstance(found, Done):  # another's; it may not decode
                block.value = self._result(call, key, lookup, found, run, lambda: MISSING)
                yield block
                return
            held.extend(found.loads)
            loaded = None
            with suppress(_LoaderError), run._running(found.loads) as together:
                with together:
                    yield block
                loaded = run._kept(found.loads, {} if block.is_missing else {key: block.value})
            self._driver.advance(steps, terms, loaded or run._failed())
            self._observer.count_miss(call.policy)
            if run.error is not None:
                raise run.error

    async def afetch(self, call: Call, key: str, loader: Callable[[], Awaitable[T]]) -> T:
        """:meth:`fetch` with an async loader; nothing in it blocks the event loop."""
        import asyncio

        if key in self._unstorable and self._is_unstorable(call, key):
            return await loader()
        began = time.monotonic_ns()
        policy = call.policy
        lookup = self._store.recall(key, policy.l1_ttl)
        if lookup is not None:
            lookup = withheld(lookup)
        else:
            lookup = await asyncio.to_thread(self._guarded.read, policy, key, call.all_tags)
        value, decision = self._served(call, key, lookup, began)
        if value is not MISSING:
            if decision is not Decision.HIT:
                self._refresh(call, key, lookup, _in_a_loop_of_its_own(loader))
            return cast(T, value if type(value) is not Raised else _raise(value))

        async def load_one(_: list[str]) -> Mapping[str, T]:
            return {key: await loader()}

        run = _LoaderRun(self, call, load_one)
        with self._counted(policy):
            done = await self._driver.drive_async(*self._driver.begin(call, {key: lookup}, began), run.async_loader)
        value = self._result(call, key, lookup, done, run, None)
        return cast(T, await loader() if value is MISSING else value)

    def refresh(self, call: Call, key: str, loader: Callable[[], T]) -> T:
        """Load a key now, whatever lies there, and replace it on success; a loader that fails changes nothing."""
        alone = Load(key, call.policy, None, flight=None, terms=self._driver.terms(call.policy, **call.observing))
        run = _LoaderRun(self, call, lambda _: {key: loader()})
        self._replace(call, alone, run.loader([alone]))
        return cast(T, _given(run.values[key]))

    async def arefresh(self, call: Call, key: str, loader: Callable[[], Awaitable[T]]) -> T:
        """:meth:`refresh` with an async loader."""
        import asyncio

        async def load_one(_: list[str]) -> Mapping[str, T]:
            return {key: await loader()}

        terms = await asyncio.to_thread(self._driver.terms, call.policy, **call.observing)
        alone = Load(key, call.policy, None, flight=None, terms=terms)
        run = _LoaderRun(self, call, load_one)
        await asyncio.to_thread(self._replace, call, alone, await run.async_loader([alone]))
        return cast(T, _given(run.values[key]))

    def _replace(self, call: Call, alone: Load, loaded: Loaded) -> None:
        if loaded.error is not None:
            raise loaded.error
        if loaded.drafts and not alone.is_tainted and alone.unstorable is None and alone.moment is not None:
            self._guarded.write(call.policy, list(loaded.drafts.items()), alone.moment)

    # Several keys

    def fetch_many(
        self, call: Call, keys: Sequence[str], loader: Callable[[list[str]], Mapping[str, Any]]
    ) -> dict[str, Any]:
        """The values of several keys; those not there are loaded together.

        Args:
            call: of all of them.
            keys: the stored keys.
            loader: called with some of them; returns a mapping of those it could load.

        Returns:
            The values there are, by stored key.
        """
        began = time.monotonic_ns()
        policy, found = call.policy, dict[str, Any]()
        lookups = dict(zip(keys, self._guarded.read_many(policy, keys, call.all_tags), strict=True))
        missing = {}
        for key, lookup in lookups.items():
            value = self.value(policy, lookup)
            if value is MISSING:
                missing[key] = lookup
            else:
                assert lookup is not None
                self._hit(policy, key, lookup)
                found[key] = value
        if not missing:
            return found
        for key, lookup in missing.items():
            self._observer.announce_miss(policy, key, lookup)
        run = _LoaderRun(self, call, loader)
        done = self._driver.drive(*self._driver.begin(call, missing, began, shares_errors=False), run.loader)
        for key, lookup in missing.items():
            shared = done.shared.get(key)
            if shared is not None and shared.stale:
                self._observer.stale(policy, key, lookup)
            else:
                self._observer.count_miss(policy)
            if shared is not None:
                found[key] = self._decoded(policy, shared.entry)
                record_read(self._store, shared.entry, stale=shared.stale)
        if run.error is not None and not run.covered(done):
            raise run.error
        found.update((key, value) for key, value in run.values.items() if key not in found)
        return {key: value for key, value in found.items() if value is not MISSING}

    # What was found

    def value(self, policy: Policy, lookup: Lookup | None) -> Any:
        """The value of a lookup when it is fresh, else ``MISSING``."""
        entry = fresh(lookup)
        return MISSING if entry is None else self._decoded(policy, entry)

    def _hit(self, policy: Policy, key: str, lookup: Lookup) -> None:
        self._observer.hit(policy, key, lookup)
        if lookup.entry is not None:
            record_read(self._store, lookup.entry)

    def _served(self, call: Call, key: str, lookup: Lookup | None, began: int) -> tuple[Any, Decision]:
        """The value of a lookup that may be served, or ``MISSING``; and whether it is to be refreshed."""
        policy = call.policy
        entry = lookup.entry if lookup is not None else None
        if lookup is not None and entry is not None:
            inside = current_load() is not None
            draw = chance.draw() if policy.beta else 1.0
            decision = decide(entry, lookup.now, inside_load=inside, beta=policy.beta, draw=draw)
            value = MISSING if decision is Decision.LOAD else self._decoded(policy, entry, call.errors)
            if value is not MISSING:
                if decision is Decision.STALE:
                    self._observer.stale(policy, key, lookup)
                else:
                    self._observer.hit(policy, key, lookup, began)
                record_read(self._store, entry, stale=decision is Decision.STALE)
                return value, decision
        self._observer.announce_miss(policy, key, lookup)
        return MISSING, Decision.LOAD

    def _result(
        self,
        call: Call,
        key: str,
        lookup: Lookup | None,
        done: Done,
        run: _LoaderRun,
        loader: Callable[[], Any] | None,
    ) -> Any:
        """What a load came to; ``MISSING`` when its caller must load by itself."""
        policy = call.policy
        shared = done.shared.get(key)
        if shared is not None and shared.stale:
            self._observer.stale(policy, key, lookup)
        else:
            self._observer.count_miss(policy)
        if shared is None:
            if run.error is not None:
                raise run.error
            return _given(run.values[key])
        record_read(self._store, shared.entry, stale=shared.stale)
        value = self._decoded(policy, shared.entry, call.errors)
        if value is MISSING and run.error is not None:
            raise run.error
        return loader() if value is MISSING and loader is not None else _given(value)

    def _decoded(self, policy: Policy, entry: Entry, errors: Errors | None = None) -> Any:
        """The entry's value, or the exception that it is to this call; ``MISSING`` where it does not decode."""
        if isinstance(entry.content, bytes):
            try:
                return self.codec.decode(entry.content)
            except CodecError as error:
                if is_raised(entry.content):
                    return self._raised(policy, entry.content, errors)
                policy.counters.add("garbage")
                self._observer.failed(policy.name, "decode", error, None)
        return MISSING

    def _raised(self, policy: Policy, content: bytes, errors: Errors | None) -> Any:
        """The exception that is stored, for a call that takes it for an answer; else ``MISSING``."""
        if errors is None:
            return MISSING
        try:
            error = errors.decode(self.codec, content)
        except CodecError as garbage:
            policy.counters.add("garbage")
            self._observer.failed(policy.name, "decode", garbage, None)
            return MISSING
        return MISSING if error is None else Raised(error)

    # What is kept

    def encoded(self, call: Call, key: str, value: object) -> bytes | None:
        """The value's bytes, or ``None`` when it can't be stored; that is remembered for the key.

        Raises:
            EncodeError: under ``RCACHE_STRICT``.
        """
        try:
            content = self._packed(call, value)
            limit = self._settings.max_bytes
            if len(content) > limit:
                raise EncodeError(f"the value takes {len(content)} bytes, more than RCACHE_MAX_BYTES = {limit}")
        except EncodeError as error:
            if self._settings.strict:
                raise
            self.remember_unstorable(key)
            self._observer.unstorable(call.policy, call.name or key, error)
            return None
        return content

    def _packed(self, call: Call, value: object) -> bytes:
        if type(value) is Raised:
            assert call.errors is not None
            return call.errors.encode(self.codec, value.error)
        return self.codec.encode(value)

    def not_for_others(self, call: Call, key: str, reason: str) -> None:
        """What a load has read is not for others, or not for long: say so once, and remember it for the key."""
        self.remember_unstorable(key)
        self._observer.warn_once(
            f"observed/{call.name or call.policy.name}/{reason}",
            "results of %s are not stored: it has read %s",
            call.name or f"cache type {call.policy.name!r}",
            reason,
        )

    def not_for_all(self, call: Call, key: str, identity: str) -> None:
        """A loader has read who is asking, under a key that is anybody's: say so once, and remember it for the key."""
        self.remember_unstorable(key)
        shown = call.name or f"cache type {call.policy.name!r}"
        self._observer.warn_once(
            f"identity/{shown}/{identity}",
            "results of %s are not stored: the loader reads %s. Read that before the call and put it in the key, or "
            "use a type with per_user=True, whose keys name the user",
            shown,
            identity,
        )

    def copied(self, value: T) -> T:
        """An equal value that shares no object with it; the value itself when it can't be stored."""
        try:
            return cast(T, self.codec.decode(self.codec.encode(value)))
        except CodecError:
            return value

    def remember_unstorable(self, key: str) -> None:
        """Load a key without a round trip for a while: its result can't be stored."""
        self._unstorable[key] = time.monotonic() + _UNSTORABLE_SECONDS

    def _is_unstorable(self, call: Call, key: str) -> bool:
        """Whether the last result of a key could not be stored: then the caller loads, without a round trip."""
        until = self._unstorable.get(key, 0.0)
        if time.monotonic() >= until:
            self._unstorable.pop(key, None)
            return False
        self._observer.bypassed(call.policy)
        depend_on(self._store, call.all_tags, self._driver.terms(call.policy).moment)
        return True

    @contextmanager
    def _counted(self, policy: Policy) -> Iterator[None]:
        """Whoever waited and got another's exception has missed too."""
        try:
            yield
        except BaseException:
            self._observer.count_miss(policy)
            raise

    # In the background

    def _refresh(self, call: Call, key: str, lookup: Lookup | None, loader: Callable[[], Any]) -> None:
        """Load a key anew in the background, once in all processes."""

        def job() -> bool:
            terms = self._driver.terms(call.policy, patience=Patience.GIVE_UP, **call.observing)
            reader = Reader(key, call.all_tags, lookup)

            def run_counted(loads: Sequence[Load]) -> Loaded:
                self._observer.refreshing(call.policy)
                return run.loader(loads)

            run = _LoaderRun(self, call, lambda _: {key: loader()})
            self._driver.drive(load([reader], self._driver.flights, terms), terms, run_counted)
            if run.error is not None:
                raise run.error
            return True

        self._refresher.submit(key, job)


class _LoaderError(Exception):
    """What the loader raised is in ``_LoaderRun.error``."""


class _LoaderRun:
    """The run of one loader for some keys, and what it gave."""

    __slots__ = ("_answers", "_call", "_fetching", "_identity", "_loader", "error", "ran", "values")

    def __init__(self, fetching: Fetching, call: Call, loader: Callable[[list[str]], Any]) -> None:
        self._fetching: Final = fetching
        self._call: Final = call
        self._loader: Final = loader
        self._answers: Final[tuple[type[Exception], ...]] = () if call.errors is None else call.errors.classes
        #: By stored key, what the loader gave.
        self.values: Final[dict[str, Any]] = {}
        self.error: Exception | None = None
        self.ran: list[str] = []
        #: What of who is asking the loader has read.
        self._identity: Callable[[], str] = str

    def loader(self, loads: Sequence[Load]) -> Loaded:
        """Run it in this thread."""
        with suppress(_LoaderError), self._running(loads) as together:
            with together:
                try:
                    given = self._loader(self.ran)
                except self._answers as error:
                    given = dict.fromkeys(self.ran, Raised(error))
            return self._kept(loads, given)
        return self._failed()

    async def async_loader(self, loads: Sequence[Load]) -> Loaded:
        """Run it in this task."""
        with suppress(_LoaderError), self._running(loads) as together:
            with together:
                try:
                    given = await self._loader(self.ran)
                except self._answers as error:
                    given = dict.fromkeys(self.ran, Raised(error))
            return self._kept(loads, given)
        return self._failed()

    def covered(self, done: Done) -> bool:
        """Whether something stands in for every key that the loader failed for."""
        return all(key in done.shared for key in self.ran)

    @contextmanager
    def _running(self, loads: Sequence[Load]) -> Iterator[Load]:
        """The load that runs for all of them; what the loader raises is kept."""
        together = loads[0]
        together.keys = tuple(each.key for each in loads)
        together.tags.update(dict.fromkeys(self._call.tags))
        self.ran = list(together.keys)
        watching = _nobody_asks if self._call.is_judged else self._fetching.identities_read
        try:
            with watching() as self._identity:
                yield together
        except Exception as error:  # somebody's loader: the algorithm says what becomes of it
            self.error = error
            raise _LoaderError from error

    def _failed(self) -> Loaded:
        # A value that can't be stored, under RCACHE_STRICT, is no failure of the loader: nothing stands in for it.
        return Loaded(error=self.error, failed=not isinstance(self.error, EncodeError))

    def _kept(self, loads: Sequence[Load], given: Mapping[str, Any]) -> Loaded:
        """The drafts of what the loader gave; what can't be stored, or is not to be, has none."""
        call, together, identity = self._call, loads[0], self._identity()
        drafts: dict[str, Draft] = {}
        for each in loads:
            if each is not together:  # one loader: what it depends on, all of them depend on
                each.share_run(together)
            if each.key not in given:
                continue
            value = self.values[each.key] = given[each.key]
            if inspect.isawaitable(value):
                if inspect.iscoroutine(value):
                    value.close()  # nobody will await it
                raise TypeError(f"{call.name or 'the loader'} returned an awaitable: use afetch, or an async function")
            self._fetching._observer.loaded(call.policy, each.key, together.cost)
            kept = call.kept(value)
            if not kept:
                if kept is NEVER:
                    self._fetching.remember_unstorable(each.key)
                continue
            if identity:
                self._fetching.not_for_all(call, each.key, identity)
                continue
            if together.unstorable is not None:
                self._fetching.not_for_others(call, each.key, together.unstorable)
                continue
            content = self._fetching.encoded(call, each.key, value)
            if content is not None:
                drafts[each.key] = call.drafted(each, content, value)
        return Loaded(drafts)


@contextmanager
def _nobody_asks() -> Iterator[Callable[[], str]]:
    """Where there are no requests, nobody is asking."""
    yield str


def _raise(answer: Raised) -> NoReturn:
    """Raise an exception that is an answer."""
    raise answer.error


def _given(value: Any) -> Any:
    """The value, unless it is to be raised."""
    return _raise(value) if type(value) is Raised else value


def _in_a_loop_of_its_own(loader: Callable[[], Awaitable[T]]) -> Callable[[], T]:
    """The async loader as a background refresh runs it: in a thread, which has no event loop."""
    import asyncio

    async def run() -> T:
        return await loader()

    return lambda: asyncio.run(run())
