"""The cache manager: what users call.

Owns the public methods: their arguments and what they return. The parts behind them are ``parts``'s.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ..codec import Errors
from ..config.settings import Settings
from ..errors import ConfigError, UnknownTypeError
from ..model.cache_type import FROM_HEADERS, CacheType, Tags, check_tags, check_ttl, split_tags
from ..model.keys import Key, caller_tag, path_in, path_tag, user_tag
from ..stores.protocol import Listed, Page, Store
from .calls import MISSING, Block, Call
from .invalidations import Invalidated
from .loading import current_load
from .observer import Tracer
from .parts import Engine
from .policies import Policy
from .statistics import CacheStats

if TYPE_CHECKING:
    from .inspector import Inspector

__all__ = ["MISSING", "CacheManager"]

T = TypeVar("T")
K = TypeVar("K", bound=Key)

#: Seconds, a duration, or a function of the result.
ValueTtl = float | timedelta | Callable[[Any], float | timedelta]
#: Seconds or a duration, by class of exception.
ErrorTtls = Mapping[type[Exception], float | timedelta] | Errors


class CacheManager:
    """One app's cache: ``current_cache``, or ``app.extensions["rcache"]``.

    Args:
        settings: the app's settings.
        store: where entries are kept.
        types: the types this app registers beside the built-in ones.
        values: classes whose objects may be values, beside the plain ones.

    Raises:
        ConfigError: two different registrations of one type name, or a class that cannot be a value.

    Attributes:
        engine: the parts, for this package's own layers; not part of the public contract.
    """

    __slots__ = ("__weakref__", "engine")

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        types: Iterable[CacheType] = (),
        values: Iterable[type] = (),
    ) -> None:
        self.engine: Final = Engine(settings, store, types=types, values=values)

    @property
    def settings(self) -> Settings:
        """The app's settings, as they were read in ``init_app``."""
        return self.engine.settings

    @property
    def types(self) -> Mapping[str, CacheType]:
        """The known types, built in, registered and found on the app's views, by name."""
        return dict(self.engine.policies.types)

    @property
    def tracer(self) -> Tracer | None:
        """Makes a span around each lookup; ``None`` for none. See ``flask_rcache.metrics.opentelemetry``."""
        return self.engine.observer.tracer

    @tracer.setter
    def tracer(self, tracer: Tracer | None) -> None:
        self.engine.observer.tracer = tracer

    # Values

    def get(self, cache_type: CacheType | str, key: Key, default: Any = None) -> Any:
        """The fresh value of a key, or ``default``.

        Args:
            cache_type: the type, or its registered name.
            key: a str, an int or a tuple.
            default: what to return for a miss; :data:`MISSING` is told from a stored ``None``.

        Raises:
            ConfigError: the type or the key is not usable.
        """
        engine = self.engine
        policy = engine.policies.policy(cache_type)
        stored = engine.names.stored(policy.name, key, hashed=False)
        if not engine.enabled:
            engine.observer.bypassed(policy)
            return default
        value = engine.values.get(policy, stored)
        return default if value is MISSING else value

    def get_many(self, cache_type: CacheType | str, keys: Iterable[K]) -> dict[K, Any]:
        """The fresh values of those keys that have one, in one round trip.

        Args:
            cache_type: the type, or its registered name.
            keys: the keys. Two that Python holds equal, ``(1,)`` and ``(True,)``, are two keys; the dict has the first.

        Raises:
            ConfigError: the type or a key is not usable.
        """
        engine = self.engine
        policy = engine.policies.policy(cache_type)
        by_stored = self._by_stored(policy, keys)
        if not engine.enabled:
            engine.observer.bypassed(policy, len(by_stored))
            return {}
        return self._by_key(by_stored, engine.values.get_many(policy, by_stored))

    def set(
        self,
        cache_type: CacheType | str,
        key: Key,
        value: object,
        *,
        ttl: ValueTtl | None = None,
        tags: Iterable[str] = (),
    ) -> bool:
        """Store a value that was read in this request or context. Prefer :meth:`fetch`: it knows when it was read.

        It counts as a load that ends at once: after an invalidation of its tags in the same request it is refused,
        until :meth:`fresh` is called. When it can't be stored, the value that was there is removed.

        Args:
            cache_type: the type, or its registered name.
            key: a str, an int or a tuple.
            value: anything that is restored exactly.
            ttl: seconds, a ``timedelta``, or a function of the value; the type's when left out.
            tags: labels by which it can be invalidated.

        Returns:
            Whether it was stored.

        Raises:
            ConfigError: the type, key, ttl or tags are not usable.
            EncodeError: under ``RCACHE_STRICT``, a value that would not be restored exactly.
        """
        return self._set(cache_type, [(key, value)], ttl, tags)

    def set_many(
        self,
        cache_type: CacheType | str,
        mapping: Mapping[Any, object],
        *,
        ttl: ValueTtl | None = None,
        tags: Iterable[str] = (),
    ) -> bool:
        """:meth:`set` for several values, in one round trip; whether all of them were stored.

        Args:
            cache_type: the type, or its registered name.
            mapping: the values by key.
            ttl: seconds, a ``timedelta``, or a function of each value; the type's when left out.
            tags: labels by which they can be invalidated.

        Raises:
            ConfigError: the type, a key, the ttl or the tags are not usable.
            EncodeError: under ``RCACHE_STRICT``, a value that would not be restored exactly.
        """
        if not isinstance(mapping, Mapping):
            raise ConfigError(f"set_many takes a mapping, the values by key, not {type(mapping).__name__}")
        return self._set(cache_type, mapping.items(), ttl, tags)

    def _set(
        self,
        cache_type: CacheType | str,
        items: Iterable[tuple[Any, object]],
        ttl: ValueTtl | None,
        tags: Iterable[str],
    ) -> bool:
        engine = self.engine
        call = self._call(cache_type, ttl, check_tags(tags))
        values = {engine.names.stored(call.policy.name, key, hashed=False): value for key, value in items}
        return not self._put(call, values)

    def put_many(self, cache_type: CacheType | str, mapping: Mapping[Any, object], *, ttl: float) -> list[Any]:
        """Store values of which the last write wins, whatever was invalidated before; for ``compat``.

        Returns:
            The keys of the values that were not stored.

        Raises:
            ConfigError: the type, a key or the ttl is not usable.
            EncodeError: under ``RCACHE_STRICT``, a value that would not be restored exactly.
        """
        call = self._call(cache_type, ttl, ())
        stored = {key: self.engine.names.stored(call.policy.name, key, hashed=False) for key in mapping}
        missed = set(self._put(call, {stored[key]: value for key, value in mapping.items()}, is_last=True))
        return [key for key in mapping if stored[key] in missed]

    def _put(self, call: Call, values: Mapping[str, object], *, is_last: bool = False) -> list[str]:
        """Store values by stored key; the keys that were not stored, whose older values are removed."""
        engine = self.engine
        if engine.enabled:
            missed = engine.values.set(call, values, is_last=is_last)
        else:
            engine.observer.bypassed(call.policy, len(values))
            missed = list(values)
        if missed:  # the value that was there is not what the caller has just said it is
            engine.invalidations.keys(call.policy.name, missed, is_stamped=False)
        return missed

    def add(
        self,
        cache_type: CacheType | str,
        key: Key,
        value: object,
        *,
        ttl: ValueTtl | None = None,
        tags: Iterable[str] = (),
    ) -> bool:
        """Store a value where there is none; atomic across processes.

        Args:
            cache_type: the type, or its registered name.
            key: a str, an int or a tuple.
            value: what is stored.
            ttl: seconds, a ``timedelta``, or a function of the value; the type's when left out.
            tags: labels by which it can be invalidated.

        Returns:
            Whether it was stored; ``False`` too when the store is away.

        Raises:
            ConfigError: the type, key, ttl or tags are not usable.
            EncodeError: under ``RCACHE_STRICT``, a value that would not be restored exactly.
        """
        engine = self.engine
        call = self._call(cache_type, ttl, tags)
        stored = engine.names.stored(call.policy.name, key, hashed=False)
        if not engine.enabled:
            engine.observer.bypassed(call.policy)
            return False
        return engine.values.add(call, stored, value)

    def incr(
        self,
        cache_type: CacheType | str,
        key: Key,
        delta: int = 1,
        *,
        initial: int = 0,
        ttl: ValueTtl | None = None,
    ) -> int:
        """Add to an integer; atomic across processes. It expires ``ttl`` after it was first counted.

        Args:
            cache_type: the type, or its registered name.
            key: a str, an int or a tuple.
            delta: what to add, negative to subtract.
            initial: what it is added to where there is none.
            ttl: seconds or a ``timedelta``; the type's when left out.

        Returns:
            The new value; ``initial + delta`` when the store is away.

        Raises:
            ConfigError: the type, key, ttl or an amount is not usable.
            TypeError: another value lies there.
        """
        for name, amount in (("delta", delta), ("initial", initial)):
            if isinstance(amount, bool) or not isinstance(amount, int):
                raise ConfigError(f"{name} must be an integer, not {type(amount).__name__} {amount!r}")
        engine = self.engine
        call = self._call(cache_type, ttl, ())
        stored = engine.names.stored(call.policy.name, key, hashed=False)
        if not engine.enabled:
            engine.observer.bypassed(call.policy)
            return initial + delta
        return engine.values.incr(call, stored, delta, initial)

    # Values that may have to be loaded

    def fetch(
        self,
        cache_type: CacheType | str,
        key: Key,
        loader: Callable[[], T],
        *,
        ttl: ValueTtl | None = None,
        tags: Tags = (),
        keep: Callable[[T], object] | None = None,
        name: str | None = None,
        refresh: bool = False,
        independent: bool = False,
        judged: bool = False,
        errors: ErrorTtls | None = None,
    ) -> T:
        """The value of a key, loaded once in all processes when it is not there.

        Args:
            cache_type: the type, or its registered name.
            key: a str, an int or a tuple.
            loader: returns the value; the tags of cached values that it reads become tags of the result, and
                :meth:`tag` adds some.
            ttl: seconds, a ``timedelta``, or a function of the result; the type's when left out.
            tags: labels by which it can be invalidated; :data:`AUTO` for the tables and rows that it reads.
            keep: called with the result; false: it is not stored.
            name: what warnings call the loader.
            refresh: load now, whatever lies there, and replace it on success.
            independent: for ``sql``: ``loader`` reads no cached values, and nothing that the request has read before
                is part of its result.
            judged: for decorators: they look themselves at what ``loader`` reads of the request. Else a value for which
                it has read the session, ``current_user`` or a credential is stored only if the type is ``per_user``.
            errors: the exceptions of ``loader`` that are answers, by class, with the seconds that each is stored: it is
                raised again for those who ask meanwhile.

        Raises:
            ConfigError: the type, key, ttl, tags or errors are not usable.
            Exception: whatever ``loader`` raises; nothing is stored then, unless ``errors`` names it.
        """
        engine = self.engine
        call = self._call(cache_type, ttl, tags, keep, name, independent=independent, judged=judged, errors=errors)
        stored = engine.names.stored(call.policy.name, key, hashed=False)
        if not engine.enabled:
            engine.observer.bypassed(call.policy)
            return loader()
        if refresh:
            return engine.fetching.refresh(call, stored, loader)
        if engine.observer.tracer is None:
            return engine.fetching.fetch(call, stored, loader)
        with engine.observer.span(call.policy.name):
            return engine.fetching.fetch(call, stored, loader)

    @contextmanager
    def block(
        self,
        cache_type: CacheType | str,
        key: Key,
        *,
        ttl: ValueTtl | None = None,
        tags: Tags = (),
        keep: Callable[[Any], object] | None = None,
        name: str | None = None,
        judged: bool = False,
    ) -> Iterator[Block]:
        """:meth:`fetch` where the loader is the block of a ``with`` statement, which sets ``value`` when it is missing.

        Nothing stands in for a block that raises, and none is run in the background.

        Args:
            cache_type: the type, or its registered name.
            key: a str, an int or a tuple.
            ttl: seconds, a ``timedelta``, or a function of the value; the type's when left out.
            tags: labels by which it can be invalidated.
            keep: called with the value; false: it is not stored.
            name: what warnings call the block.
            judged: as for :meth:`fetch`.

        Raises:
            ConfigError: the type, key, ttl or tags are not usable.
        """
        engine = self.engine
        call = self._call(cache_type, ttl, tags, keep, name, judged=judged)
        stored = engine.names.stored(call.policy.name, key, hashed=False)
        if engine.enabled:
            with engine.fetching.block(call, stored) as block:
                yield block
        else:
            engine.observer.bypassed(call.policy)
            yield Block(MISSING)

    async def afetch(
        self,
        cache_type: CacheType | str,
        key: Key,
        loader: Callable[[], Awaitable[T]],
        *,
        ttl: ValueTtl | None = None,
        tags: Tags = (),
        keep: Callable[[T], object] | None = None,
        name: str | None = None,
        refresh: bool = False,
        independent: bool = False,
        judged: bool = False,
        errors: ErrorTtls | None = None,
    ) -> T:
        """:meth:`fetch` with an async loader; neither Redis nor waiting for another's load blocks the event loop.

        Its arguments, result and errors are those of :meth:`fetch`.
        """
        engine = self.engine
        call = self._call(cache_type, ttl, tags, keep, name, independent=independent, judged=judged, errors=errors)
        stored = engine.names.stored(call.policy.name, key, hashed=False)
        if not engine.enabled:
            engine.observer.bypassed(call.policy)
            return await loader()
        if refresh:
            return await engine.fetching.arefresh(call, stored, loader)
        with engine.observer.span(call.policy.name):
            return await engine.fetching.afetch(call, stored, loader)

    def fetch_many(
        self,
        cache_type: CacheType | str,
        keys: Iterable[K],
        loader: Callable[[list[K]], Mapping[K, T]],
        *,
        ttl: ValueTtl | None = None,
        tags: Iterable[str] = (),
    ) -> dict[K, T]:
        """The values of several keys; those not there are loaded together.

        Three round trips for any number of keys, unless another loader is at work on some of them: those are waited for
        after this call's own load, and loaded in a second call when they do not come.

        Args:
            cache_type: the type, or its registered name.
            keys: the keys. Two that Python holds equal, ``(1,)`` and ``(True,)``, are two keys; the dict has the first.
            loader: called with the missing keys; returns a mapping of those it could load.
            ttl: seconds, a ``timedelta``, or a function of one result; the type's when left out.
            tags: labels of every value loaded.

        Returns:
            The values of the keys that have one, in the order of ``keys``.

        Raises:
            ConfigError: the type, a key, the ttl or the tags are not usable.
            TypeError: the loader returned no mapping.
            Exception: whatever ``loader`` raises, unless an expired value may stand in for each key that it was asked
                for (``stale_if_error``).
        """
        engine = self.engine
        call = self._call(cache_type, ttl, tags)
        by_stored = self._by_stored(call.policy, keys)
        if not by_stored:
            return {}
        load = _by_stored_key(by_stored, loader)
        if engine.enabled:
            return self._by_key(by_stored, engine.fetching.fetch_many(call, list(by_stored), load))
        engine.observer.bypassed(call.policy, len(by_stored))
        return self._by_key(by_stored, load(list(by_stored)))

    # Values that are written to their source as well

    def write_through(
        self,
        cache_type: CacheType | str,
        key: Key,
        value: T,
        save: Callable[[T], object],
        *,
        ttl: ValueTtl | None = None,
        tags: Iterable[str] = (),
        version: int | None = None,
    ) -> T:
        """Write a value to its source, then to the cache.

        The key is taken over before ``save``: what others load meanwhile is not stored, so that no load under way
        brings the old value back. Of two writers at a time, neither value is cached unless it is the last one's.

        Args:
            cache_type: the type, or its registered name.
            key: a str, an int or a tuple.
            value: what is written.
            save: writes it to the source, and commits.
            ttl: seconds, a ``timedelta``, or a function of the value; the type's when left out.
            tags: labels by which it can be invalidated.
            version: of the value: an older one does not replace a newer one that is cached.

        Returns:
            The value.

        Raises:
            ConfigError: an argument is not usable.
            Exception: what ``save`` raises; neither the old nor the new value is cached then.
        """
        if not callable(save):
            raise ConfigError(f"save of write_through must be a function of the value, not {save!r:.80}")
        if version is not None and (isinstance(version, bool) or not isinstance(version, int)):
            raise ConfigError(f"version of write_through must be an integer, not {version!r:.80}")
        engine = self.engine
        call = self._call(cache_type, ttl, tags, name="write_through")
        stored = engine.names.stored(call.policy.name, key, hashed=False)
        is_cached = False
        try:
            if engine.enabled:
                is_cached = engine.writes.through(call, stored, value, save, version)
            else:
                save(value)
        finally:
            if not is_cached:  # whatever lies there may be older than the source
                engine.invalidations.keys(call.policy.name, [stored])
        return value

    def write_behind(
        self,
        cache_type: CacheType | str,
        key: Key,
        value: object,
        *,
        queue: str = "default",
        ttl: ValueTtl | None = None,
        tags: Iterable[str] = (),
    ) -> str:
        """Write a value to the cache now, and to its source later: ``flask cache writer`` applies the queue's writes.

        Args:
            cache_type: the type, or its registered name.
            key: a str, an int or a tuple.
            value: what is written.
            queue: the name that its writer was registered under.
            ttl: seconds, a ``timedelta``, or a function of the value; the type's when left out. Longer than the queue
                may lag: what is asked for after that comes from the source.
            tags: labels by which it can be invalidated.

        Returns:
            The id of the write; those of one key grow.

        Raises:
            ConfigError: an argument is not usable, or the queue has no writer.
            EncodeError: the value would not be restored exactly.
            StoreError: the queue is full or away, or its server may evict it; then nothing is cached.
        """
        return self.write_behind_many(cache_type, [(key, value)], queue=queue, ttl=ttl, tags=tags)[0]

    def write_behind_many(
        self,
        cache_type: CacheType | str,
        items: Mapping[Any, object] | Iterable[tuple[Any, object]],
        *,
        queue: str = "default",
        ttl: ValueTtl | None = None,
        tags: Iterable[str] = (),
    ) -> list[str]:
        """:meth:`write_behind` for many values, 250 in one round trip; their ids, in order.

        Args:
            cache_type: the type, or its registered name.
            items: the values by key, or pairs of both, where a key may occur several times.
            queue: the name of the queue.
            ttl: seconds that the values are cached for, or a ``timedelta``; the type's when left out.
            tags: labels by which they can be invalidated.

        Raises:
            ConfigError: an argument is not usable, or the queue has no writer.
            EncodeError: a value would not be restored exactly.
            StoreError: see :meth:`write_behind`; of more than 250 values those before may be in the queue.
        """
        engine = self.engine
        call = self._call(cache_type, ttl, tags, name="write_behind")
        pairs = items.items() if isinstance(items, Mapping) else items
        values = [(key, engine.names.stored(call.policy.name, key, hashed=False), value) for key, value in pairs]
        return engine.writes.behind(call, values, queue)

    # During a load

    def tag(self, *tags: str) -> None:
        """Label the entry being loaded, from inside its loader or view; outside a load it does nothing.

        Args:
            *tags: labels by which the entry can be invalidated.

        Raises:
            ConfigError: a tag is empty or not a string.
        """
        checked = [user_tag(tag) for tag in check_tags(tags)]
        load = current_load()
        if load is not None:
            load.tags.update(dict.fromkeys(checked))

    def limit_ttl(self, seconds: float | timedelta) -> None:
        """Shorten the ttl of the entry being loaded, from inside its loader or view; outside a load it does nothing.

        The headers sent to browsers stay as they are.

        Args:
            seconds: the longest that the entry is fresh; or a ``timedelta``.

        Raises:
            ConfigError: not a duration.
        """
        limit = check_ttl(seconds)
        load = current_load()
        if load is not None:
            load.longest_ttl = min(load.longest_ttl, limit)

    def fresh(self) -> None:
        """State that nothing of the source was read yet in this request or context, or that it will be read again.

        For a job's loop at the beginning of each round, and for a request that goes on reading after its own commit and
        invalidation. What is loaded from here on may be stored.

        Raises:
            ConfigError: inside a load, whose result depends on what it has read before.
        """
        if current_load() is not None:
            raise ConfigError("fresh() inside a load would forget what the load has read already: call it before")
        scope = self.engine.scope()
        if scope is not None:
            scope.renew(self.engine.store.moment or self.engine.store.hear())

    def depend(self, cache_type: CacheType | str, tags: Tags) -> None:
        """Have the entry being loaded depend on a type and on tags, as if it had read an entry; for ``functions``.

        Raises:
            ConfigError: the type or a tag is not usable.
        """
        policy = self.engine.policies.policy(cache_type)
        load = current_load()
        names = (policy.tag, *map(user_tag, split_tags(tags)[1]))
        if load is not None:
            load.tags.update(dict.fromkeys(names))

    # Invalidation: after the write has been committed

    def delete(self, cache_type: CacheType | str, key: Key) -> bool:
        """Remove one entry, its variants included, and refuse the result of a load of it that is under way.

        Args:
            cache_type: the type, or its registered name.
            key: the key, or the stored key as :meth:`entries` and ``X-Cache-Key`` show it.

        Returns:
            Whether it was there. ``False`` too when the store is away; the removal is then journalled.

        Raises:
            ConfigError: the type or the key is not usable.
        """
        engine = self.engine
        policy = engine.policies.policy(self.known_type(cache_type))
        # A key with a hash in it may have been pasted from a listing, or be what `set` was given: then it is hashed.
        names, store = engine.names, engine.store
        stored = list(dict.fromkeys(names.stored(policy.name, key, hashed=hashed) for hashed in (True, False)))
        sent = engine.invalidations.send("key", tuple(stored[:1]), policy.name, lambda: store.delete(stored))
        return sent > 0

    def invalidate_type(self, cache_type: CacheType | str) -> Invalidated:
        """Make every entry of a type invalid, everywhere. Call it after the write has been committed.

        Args:
            cache_type: the type, or its registered name.

        Returns:
            How many live entries were removed; from the index, so it is an upper bound. 0 when the store is away, and
            the invalidation is journalled then.

        Raises:
            UnknownTypeError: a name that is not registered.
        """
        name = self.known_type(cache_type).name
        engine = self.engine
        return engine.invalidations.send("type", (name,), name, lambda: engine.store.invalidate((), (name,)))

    def invalidate_tags(self, *tags: str) -> Invalidated:
        """Make every entry with any of the tags invalid, everywhere.

        Args:
            *tags: the labels; none does nothing.

        Returns:
            The number of tags. 0 when the store is away, and the invalidation is journalled then.

        Raises:
            ConfigError: a tag is empty or not a string.
        """
        checked = check_tags(tags)
        if not checked:
            return Invalidated(0)
        return self.engine.invalidations.members("tags", checked, tuple(map(user_tag, checked)))

    def invalidate_pattern(self, pattern: str, *, type: CacheType | str | None = None) -> Invalidated:
        """Remove the entries whose stored key matches a glob, and refuse loads that are under way.

        Args:
            pattern: ``*``, ``?``, ``[abc]``; relative to ``{prefix}:``, or with type to ``{prefix}:{type}:``. A hashed
                key matches by its hash only.
            type: confine it to this type.

        Returns:
            The number of entries removed. 0 when the store is away, and the invalidation is journalled then.

        Raises:
            ConfigError: the pattern is empty or not a string.
            UnknownTypeError: a type's name that is not registered.
        """
        name = None if type is None else self.known_type(type).name
        glob, plain = self.engine.names.pattern(pattern, type_name=name)
        store, send = self.engine.store, self.engine.invalidations.send
        return send("pattern", (glob,), name or "", lambda: store.invalidate_pattern(glob, plain))

    def clear_all(self) -> Invalidated:
        """Make every entry of this cache invalid; other keys of the database are not touched.

        Returns:
            How many live entries were removed; from the indexes, so it is an upper bound. 0 when the store is away, and
            the invalidation is journalled then.
        """
        engine = self.engine
        return engine.invalidations.send("all", (), "", lambda: engine.store.invalidate((), (), everything=True))

    def invalidate_url(self, url_or_path: str) -> Invalidated:
        """Make every answer of decorated views to a URL's path invalid, everywhere.

        Those of all hosts, queries, variants and users: a query and a host in ``url_or_path`` do not count.

        Args:
            url_or_path: ``"/item/7"``, as ``url_for`` gives it, or ``"https://example.org/item/7"``; with the path that
                the app is mounted under, if there is one.

        Returns:
            1, the number of paths. 0 when the store is away, and the invalidation is journalled then.

        Raises:
            ConfigError: neither a URL nor a path.
        """
        path = path_in(url_or_path)
        return self.engine.invalidations.members("url", (path,), [path_tag(path)])

    def invalidate_user(self, id: object) -> Invalidated:
        """Make the answers for one user invalid, everywhere: at logout, or when rights change.

        That are the entries of views whose ``key_func`` is ``by_user`` or made by ``by_caller``.

        Args:
            id: the user's, as flask-login's ``get_id()``, a token's ``sub`` or the function of ``by_caller`` gives it.

        Returns:
            1, the number of users. 0 when the store is away, and the invalidation is journalled then.

        Raises:
            ConfigError: no id.
        """
        if id is None or id == "":
            raise ConfigError(f"invalidate_user takes the id of a user, not {id!r}")
        return self.engine.invalidations.members("user", (str(id),), [caller_tag(str(id))])

    # What operators ask

    @property
    def _inspector(self) -> Inspector:
        from .inspector import Inspector  # which serving requests does not need

        return Inspector(self.engine)

    @property
    def is_available(self) -> bool:
        """Whether the store answers as it should."""
        return self.engine.store.incident is None

    def stats(self) -> CacheStats:
        """The counters of all processes, by type and in total; ``scope`` says whether they are of all.

        What other processes counted in the last second may be missing. On ``memory://``, and while the store is
        unavailable, the figures are this process's.
        """
        return self._inspector.stats()

    def entries(self, type: CacheType | str | None = None, pattern: str | None = None) -> Iterator[Listed]:
        """The live entries with ttl, age, size and tags, without their values.

        Args:
            type: confine it to this type.
            pattern: a glob as in :meth:`invalidate_pattern`.

        Raises:
            ConfigError: the type or the pattern is not usable; when the first entry is asked for.
        """
        return self._inspector.entries(type, pattern)

    def page(
        self,
        type: CacheType | str | None = None,
        pattern: str | None = None,
        *,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page:
        """A page of the live entries.

        Args:
            type: confine it to this type.
            pattern: a glob as in :meth:`invalidate_pattern`.
            cursor: the ``cursor`` of the page before.
            limit: entries wanted, 1 to 1000.

        Raises:
            ConfigError: a limit, a pattern or a cursor that is not usable.
            UnknownTypeError: no such type.
        """
        return self._inspector.page(type, pattern, cursor=cursor, limit=limit)

    def inspect(self, key: str) -> Listed | None:
        """One live entry; ``None`` when there is none.

        Args:
            key: the stored key, ``cache:search:42``.
        """
        return self._inspector.inspect(key)

    def queues(self) -> list[dict[str, Any]]:
        """The queues of writes behind, as ``overview()["queues"]``: what waits, since when, and what was given up."""
        return self._inspector.queues()

    def overview(self) -> dict[str, Any]:
        """The state of the cache as plain data: tiers, bus, breaker, journal, types, and recent activity.

        ``entries`` of a type is an upper bound, and ``bytes`` an estimate from a sample. ``memory_tier`` and ``bus``
        are those of the answering process, ``None`` where there is none.
        """
        return self._inspector.overview()

    def known_type(self, cache_type: CacheType | str) -> CacheType:
        """The type that a name stands for, also one that only a call has used; for operators."""
        try:  # mostly it is registered, and the first invalidation of a process need not wait for an import
            return self.engine.policies.resolve(cache_type)
        except UnknownTypeError:
            return self._inspector.known_type(cache_type)

    def close(self) -> None:
        """Release refreshes, connections and threads, without waiting for loaders; the cache may be used again."""
        self.engine.refresher.close()
        self.engine.store.close()

    # Behind the API

    def _call(
        self,
        cache_type: CacheType | str,
        ttl: ValueTtl | None,
        tags: Tags,
        keep: Callable[[Any], object] | None = None,
        name: str | None = None,
        *,
        independent: bool = False,
        judged: bool = False,
        errors: ErrorTtls | None = None,
    ) -> Call:
        answers = errors if errors is None or isinstance(errors, Errors) else Errors(errors)
        by_result = ttl if callable(ttl) else None
        policy, checked, observes = self.engine.policies.resolve_call(cache_type, None if callable(ttl) else ttl, tags)
        if policy.ttl is FROM_HEADERS and by_result is None:
            raise ConfigError(f"a value has no headers: give a ttl for cache type {policy.name!r} here")
        return Call(
            policy,
            checked,
            ttl=by_result,
            keep=keep,
            name=name,
            observes=observes,
            is_independent=independent,
            is_judged=judged,
            errors=answers,
        )

    def _by_stored(self, policy: Policy, keys: Iterable[K]) -> dict[str, list[K]]:
        """The keys by their stored keys, which differ for ``(1,)`` and ``(True,)``; 42 and "42" have the same."""
        if isinstance(keys, str | bytes) or not isinstance(keys, Iterable):
            raise ConfigError(f"keys must be a list of keys, not {keys!r:.80}: write [{keys!r:.80}]")
        by_stored: dict[str, list[K]] = {}
        for key in keys:
            by_stored.setdefault(self.engine.names.stored(policy.name, key, hashed=False), []).append(key)
        return by_stored

    def _by_key(self, by_stored: Mapping[str, list[K]], values: Mapping[str, T]) -> dict[K, T]:
        """The values by the keys as they were given; of two that Python holds equal the first."""
        result: dict[K, T] = {}
        for stored, keys in by_stored.items():
            if stored in values:
                result.setdefault(keys[0], values[stored])
                for key in keys[1:]:  # another spelling: it shares no object with the first
                    if key not in result:
                        result[key] = self.engine.fetching.copied(values[stored])
        return result


def _by_stored_key(
    by_stored: Mapping[str, list[K]], loader: Callable[[list[K]], Mapping[K, T]]
) -> Callable[[list[str]], dict[str, T]]:
    """The loader of several keys, asked by stored key; keys that Python holds equal go to different calls of it."""

    def load(stored: list[str]) -> dict[str, T]:
        values: dict[str, T] = {}
        rest = stored
        while rest:
            together: dict[K, str] = {}
            for each in rest:
                together.setdefault(by_stored[each][0], each)
            mapping = loader(list(together))
            if not hasattr(mapping, "keys") or not hasattr(mapping, "__getitem__"):
                kind = type(mapping).__name__
                raise TypeError(f"the loader of fetch_many must return a mapping, the values by key, not {kind}")
            values.update((each, mapping[key]) for key, each in together.items() if key in mapping)
            taken = set(together.values())
            rest = [each for each in rest if each not in taken]
        return values

    return load
