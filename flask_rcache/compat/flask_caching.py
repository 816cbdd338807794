"""A look-alike of Flask-Caching: an app moves over by importing from here.

``from flask_caching import Cache`` becomes ``from flask_rcache.compat.flask_caching import Cache``; the rest of the app
stays. What differs is on the page :doc:`/migrating`. Owns :class:`Cache` and what is imported beside it. Flask-Caching
itself is not needed, nor is it imported.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, ParamSpec, Protocol, TypeVar, cast

from blinker import Namespace
from flask import Flask, Response, after_this_request, current_app, has_request_context
from werkzeug.exceptions import HTTPException

from ..context import EXTENSION, current_cache, manager_of, request_context
from ..engine.calls import MISSING
from ..engine.manager import CacheManager
from ..errors import ConfigError
from ..extension import RCache
from ..model.scope import scope_var
from .answers import pack, unpack
from .calls import Memoized, function_namespace
from .contract import KeyValues, NoValues, Timeout, lifetime
from .decorated import Args, Kwargs, Load, Options, Plan, call, is_true, reading
from .pages import OF_THE_PATH, Asked, QueryArgs, ViewKey, asked_by, source_hash
from .settings import NULL, PREFIX, backend_options, cache_type, store_settings
from .template_tag import ATTRIBUTE, CacheExtension
from .template_tag import fragment_key as make_template_fragment_key

__all__ = [
    "SUPPORTED_HASH_FUNCTIONS",
    "Cache",
    "CacheExtension",
    "CachedResponse",
    "RCacheBackend",
    "cache_memoize_hit",
    "cache_memoize_miss",
    "cache_view_hit",
    "cache_view_miss",
    "function_namespace",
    "make_template_fragment_key",
]

logger: Final = logging.getLogger("flask_rcache")

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

#: Hash functions of keys that Flask-Caching's tests know; ``hash_method`` takes any of ``hashlib``.
SUPPORTED_HASH_FUNCTIONS: Final = [
    hashlib.sha1,
    hashlib.sha224,
    hashlib.sha256,
    hashlib.sha384,
    hashlib.sha512,
    hashlib.md5,
]

_signals = Namespace()
#: An answer of a decorated view came from the cache: ``cache``, ``cache_key``, ``args``, ``kwargs``.
cache_view_hit: Final = _signals.signal("cache-view-hit")
#: A decorated view is called.
cache_view_miss: Final = _signals.signal("cache-view-miss")
#: A value of a memoized function came from the cache; ``f`` beside the others.
cache_memoize_hit: Final = _signals.signal("cache-memoize-hit")
#: A memoized function is called.
cache_memoize_miss: Final = _signals.signal("cache-memoize-miss")

#: The cache type of the usual prefix; others have theirs behind it.
_FAMILY: Final = "flask_caching"
#: Where an app has what its look-alikes made its store of.
_MADE_OF: Final = "rcache.compat"


class CachedResponse(Response):
    """A response that says how long a view decorated with :meth:`Cache.cached` keeps it.

    Args:
        response: taken over as it is.
        timeout: seconds, or a ``timedelta``.
    """

    timeout: Timeout = None

    def __init__(self, response: Response, timeout: Timeout) -> None:
        self.__dict__ = response.__dict__
        self.timeout = timeout


class CachedFunction(Protocol[P, R_co]):
    """What :meth:`Cache.cached` makes of a function.

    Attributes:
        uncached: the plain function.
        cache_timeout: seconds; may be set.
        make_cache_key: the key of a call; may be set.
    """

    uncached: Callable[..., Any]
    cache_timeout: Timeout
    make_cache_key: Callable[..., str]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """The cached answer, or the function's, which is stored."""
        ...

    def __get__(self, instance: Any, owner: type | None = None, /) -> Any:
        """Bound to an object, as a method is."""
        ...


class MemoizedFunction(CachedFunction[P, R_co], Protocol[P, R_co]):
    """What :meth:`Cache.memoize` makes of a function.

    Attributes:
        delete_memoized: makes all its values invalid.
    """

    delete_memoized: Callable[[], None]


def RCacheBackend(  # noqa: N802  # CACHE_TYPE names it, as it does classes
    app: Flask, config: Mapping[str, Any], args: Iterable[Any] = (), options: Mapping[str, Any] | None = None
) -> KeyValues:
    """A backend on this engine, for Flask-Caching itself: ``CACHE_TYPE`` names it.

    The store is the one of the app's :class:`~flask_rcache.RCache`. Where it has none it gets one, on the server that
    ``RCACHE_URL`` or Flask-Caching's own settings name.

    Args:
        app: the app.
        config: its settings, with what ``Cache`` was given.
        args: none: ``CACHE_ARGS`` is not used.
        options: what Flask-Caching gives to each backend.

    Raises:
        ConfigError: a setting is not usable.
    """
    if list(args):
        raise ConfigError("CACHE_ARGS are arguments of Flask-Caching's backends: leave them out")
    manager = _manager_for(app, config)
    return KeyValues(
        _current_or(manager),
        _FAMILY,
        usual_prefix=PREFIX,
        pack=pack,
        unpack=unpack,
        **backend_options(config, options),
    )


def _manager_for(app: Flask, config: Mapping[str, Any]) -> CacheManager:
    """The cache of an app, which gets one if it has none.

    Raises:
        ConfigError: a setting is not usable, or another ``Cache`` has made it of another store.
    """
    wanted = store_settings(config)
    made_of = app.extensions.get(_MADE_OF)
    if EXTENSION not in app.extensions:
        for name, value in wanted.items():
            if app.config.get(name) is None and not os.environ.get(name):
                app.config[name] = value
        RCache(app)
        app.extensions[_MADE_OF] = wanted
    elif made_of is not None and wanted and made_of != wanted:
        raise ConfigError(
            f"{app.name!r} has one store, and two Cache objects ask for different ones: give both the same CACHE_TYPE "
            "and address; CACHE_KEY_PREFIX keeps their keys apart"
        )
    return manager_of(app)


def _current_or(manager: CacheManager) -> Callable[[], CacheManager]:
    """A function that gives a manager: in a context of its app, with the scope of that."""
    store = manager.engine.store

    def current() -> CacheManager:
        scope = scope_var.get()
        if scope is not None and scope.is_request and scope.owner is store:
            return manager
        if current_app and current_app.extensions.get(EXTENSION) is manager:
            return cast(CacheManager, cast(Any, current_cache)._get_current_object())
        return manager

    return current


class Cache:
    """Flask-Caching's extension, on this engine.

    Args:
        app: initialise this app at once.
        with_jinja2_ext: give its templates the tag ``{% cache timeout, name, … %}``.
        config: settings ``CACHE_*`` that go before the app's.

    Raises:
        ValueError: ``config`` is no dict.
        ConfigError: a setting is not usable.
    """

    def __init__(
        self, app: Flask | None = None, with_jinja2_ext: bool = True, config: dict[str, Any] | None = None
    ) -> None:
        _check_config(config)
        self.with_jinja2_ext = with_jinja2_ext
        self.config = config
        self.source_check = False
        self.enable_signals = False
        self.hash_method: Callable[..., Any] = hashlib.sha256
        self._apps: list[Flask] = []
        if app is not None:
            self.init_app(app, config)

    def init_app(self, app: Flask, config: dict[str, Any] | None = None) -> None:
        """Give an app its cache.

        Args:
            app: its settings are read now.
            config: settings that go before the app's.

        Raises:
            ValueError: ``config`` is no dict, or ``CACHE_HASH_METHOD`` no hash function.
            ConfigError: a setting is not usable.

        Warns:
            UserWarning: ``CACHE_TYPE`` says nothing, so nothing is cached.
        """
        _check_config(config)
        merged = {**app.config, **(self.config or {}), **(config or {})}
        backend: KeyValues | NoValues
        if cache_type(merged) == NULL:
            if not merged.get("CACHE_NO_NULL_WARNING"):
                warnings.warn(
                    "CACHE_TYPE is NullCache, so nothing is cached: set it, or CACHE_NO_NULL_WARNING", stacklevel=2
                )
            options = backend_options(merged)
            backend = NoValues(default_timeout=options["default_timeout"], key_prefix=options["key_prefix"])
        else:
            backend = RCacheBackend(app, merged)
        hash_method = merged.get("CACHE_HASH_METHOD") or hashlib.sha256
        if not callable(hash_method):
            raise ValueError(f"CACHE_HASH_METHOD must be a hash function such as hashlib.sha256, not {hash_method!r}")
        self.hash_method = hash_method
        self.source_check = bool(merged.get("CACHE_SOURCE_CHECK"))
        self.enable_signals = bool(merged.get("CACHE_ENABLE_SIGNALS"))
        app.extensions.setdefault("cache", {})[self] = backend
        if self.with_jinja2_ext:
            setattr(app.jinja_env, ATTRIBUTE, self)
            app.jinja_env.add_extension(CacheExtension)
        self._apps[:] = [app]

    @property
    def app(self) -> Flask:
        """The app that was initialised last.

        Raises:
            ConfigError: none was.
        """
        if not self._apps:
            raise ConfigError("this Cache has no app: call cache.init_app(app)")
        return self._apps[0]

    @property
    def cache(self) -> KeyValues | NoValues:
        """The backend of the current app; outside of a context, of the app that was initialised last.

        Raises:
            ConfigError: the app has not this cache.
        """
        app: Flask = current_app or self.app
        backend: KeyValues | NoValues | None = app.extensions.get("cache", {}).get(self)
        if backend is None:
            raise ConfigError(f"{app.name!r} does not have this Cache: call cache.init_app(app)")
        return backend

    # Values

    def get(self, key: object) -> Any:
        """See :meth:`KeyValues.get <.contract.KeyValues.get>`."""
        return self.cache.get(key)

    def has(self, key: object) -> bool:
        """Whether a key has a value."""
        return self.cache.has(key)

    def set(self, key: object, value: object, timeout: Timeout = None) -> bool:
        """Store a value; whether it was stored."""
        return self.cache.set(key, value, timeout)

    def add(self, key: object, value: object, timeout: Timeout = None) -> bool:
        """Store a value where there is none; whether it was stored."""
        return self.cache.add(key, value, timeout)

    def delete(self, key: object) -> bool:
        """Remove a value; whether it was there."""
        return self.cache.delete(key)

    def get_many(self, *keys: object) -> list[Any]:
        """The values in the order of the keys, ``None`` for each that has none."""
        return list(self.cache.get_many(*keys))

    def get_dict(self, *keys: Any) -> dict[Any, Any]:
        """:meth:`get_many` by key."""
        return dict(self.cache.get_dict(*keys))

    def set_many(self, mapping: Mapping[Any, object], timeout: Timeout = None) -> list[Any]:
        """Store values; the keys of those that were stored."""
        return self.cache.set_many(mapping, timeout)

    def delete_many(self, *keys: Any) -> list[Any]:
        """Remove values; the keys."""
        return self.cache.delete_many(*keys)

    def unlink(self, *keys: Any) -> int:
        """Remove values; how many were there."""
        return self.cache.unlink(*keys)

    def inc(self, key: object, delta: int = 1) -> int | None:
        """Add to an integer, atomically; the new value."""
        return self.cache.inc(key, delta)

    def dec(self, key: object, delta: int = 1) -> int | None:
        """Subtract from an integer, atomically; the new value."""
        return self.cache.dec(key, delta)

    def clear(self) -> bool:
        """Remove everything that was stored under ``CACHE_KEY_PREFIX``; other keys are not touched."""
        return self.cache.clear()

    # Views

    def cached(
        self,
        timeout: Timeout = None,
        key_prefix: str | Callable[[], str] = "view/%s",
        unless: Callable[..., Any] | None = None,
        forced_update: Callable[..., Any] | None = None,
        is_stale: Callable[..., Any] | None = None,
        response_filter: Callable[..., Any] | None = None,
        query_string: bool = False,
        hash_method: Callable[..., Any] | None = None,
        cache_none: bool = False,
        make_cache_key: Callable[..., Any] | None = None,
        source_check: bool | None = None,
        response_hit_indication: bool | None = False,
    ) -> Callable[[Callable[P, R]], CachedFunction[P, R]]:
        """Cache the answers of a view, by its path.

        What the view, and what ran before it, has read of the request beside the path (the session, a header, a cookie,
        an argument of the query without ``query_string``) selects: the answer is stored and served only for requests
        that have none of it. A warning says once what others have. What ``key_prefix``, ``make_cache_key`` and
        ``unless`` read does not count. With a key that is not made of the path, an answer for which anything else was
        read is not stored.

        Args:
            timeout: seconds, or a ``timedelta``; 0 never expires; ``CACHE_DEFAULT_TIMEOUT`` when left out.
            key_prefix: the key, in which ``%s`` stands for the path; or a function that returns it.
            unless: true bypasses the cache; takes the function and its arguments, or nothing.
            forced_update: true loads anew; takes the arguments, or nothing.
            is_stale: called with a cached answer, and the arguments if it takes them; true loads anew.
            response_filter: called with an answer; false: it is not stored.
            query_string: the query is part of the key, in any order.
            hash_method: of ``hashlib``, for the query and the source; ``CACHE_HASH_METHOD`` when left out.
            cache_none: whether ``None`` is stored.
            make_cache_key: called with the arguments, returns the key.
            source_check: the source of the view is part of the key; ``CACHE_SOURCE_CHECK`` when left out.
            response_hit_indication: hits have the header ``hit_cache: True``.

        Raises:
            ConfigError: the timeout is not usable.
        """
        lifetime(timeout)

        def decorate(f: Callable[P, R]) -> CachedFunction[P, R]:
            view = ViewKey(f, key_prefix, query_string, hash_method, lambda: self, source_check)
            own_key = view.key
            is_by_path = view.is_by_path and not callable(make_cache_key)

            def key_of(args: Args, kwargs: Kwargs) -> str:
                if callable(make_cache_key):
                    return cast(str, make_cache_key(*args, **kwargs))
                if is_by_path and decorated.make_cache_key is own_key:
                    return view.of_request()
                return decorated.make_cache_key(*args, use_request=True, **kwargs)

            def covered(args: Args, kwargs: Kwargs) -> frozenset[str]:
                reads = reading([lambda: key_of(args, kwargs), lambda: is_true(unless, f, *args, **kwargs)])
                return reads | OF_THE_PATH if is_by_path else reads

            def timeout_of(answer: object) -> Timeout:
                own = answer.timeout if isinstance(answer, CachedResponse) else None
                given = own or decorated.cache_timeout
                return self.cache.default_timeout if given is None else given

            plan = Plan(
                lambda args, kwargs: call(f, self.app, args, kwargs),
                f"{f.__module__}.{f.__qualname__}",
                "let key_prefix, make_cache_key or unless read it, or for a query set query_string=True",
                Options(unless, forced_update, is_stale, response_filter, cache_none),
                self._backend,
                key_of,
                covered,
                timeout_of,
                on_miss=lambda key, args, kwargs: self._send(cache_view_miss, key, args, kwargs),
                keeps_errors=True,
                is_debug=lambda: self.app.debug,
            )

            @functools.wraps(f)
            def call_cached(*args: Any, **kwargs: Any) -> Any:
                asked = asked_by(request_context()) if is_by_path else Asked()
                if asked.is_bypassed or (unless is not None and is_true(unless, f, *args, **kwargs)):
                    return call(f, self.app, args, kwargs)
                load = Load(plan, args, kwargs, page=asked.page, is_stored=asked.is_stored)
                answer = load.get()
                if load.answer is MISSING:
                    self._send(cache_view_hit, load.key, args, kwargs)
                    if response_hit_indication and has_request_context():
                        after_this_request(_indicate_hit)
                if isinstance(answer, HTTPException):
                    raise answer
                return answer

            decorated = cast("CachedFunction[P, R]", call_cached)
            decorated.uncached = f
            decorated.cache_timeout = timeout
            decorated.make_cache_key = own_key
            return decorated

        return decorate

    def delete_cached(
        self, f: CachedFunction[..., Any], path: str | None = None, query_args: QueryArgs | None = None, **kwargs: Any
    ) -> bool:
        """Remove a cached answer of a view; whether it was there.

        Args:
            f: the decorated view.
            path: of the answer; made of ``kwargs`` with ``url_for`` when left out.
            query_args: the query of the answer: a query string, a mapping, or pairs.
            kwargs: the arguments of the view.
        """
        return self.delete(f.make_cache_key(path=path, query_args=query_args, **kwargs))

    # Functions

    def memoize(
        self,
        timeout: Timeout = None,
        make_name: Callable[..., str] | None = None,
        unless: Callable[..., Any] | None = None,
        forced_update: Callable[..., Any] | None = None,
        is_stale: Callable[..., Any] | None = None,
        response_filter: Callable[..., Any] | None = None,
        hash_method: Callable[..., Any] | None = None,
        cache_none: bool = False,
        source_check: bool | None = None,
        args_to_ignore: list[str] | None = None,
    ) -> Callable[[Callable[P, R]], MemoizedFunction[P, R]]:
        """Cache the values of a function, by its arguments.

        A value for which the function has read anything of the request is not stored, and one warning says what it
        was: pass it as an argument.

        Args:
            timeout: seconds, or a ``timedelta``; 0 never expires; ``CACHE_DEFAULT_TIMEOUT`` when left out.
            make_name: called with the function's name, returns what stands for it in the key.
            unless: true bypasses the cache; takes the function and its arguments, or nothing.
            forced_update: true loads anew; takes the arguments, or nothing.
            is_stale: called with a cached value, and the arguments if it takes them; true loads anew.
            response_filter: called with a value; false: it is not stored.
            hash_method: not used: keys are hashed with BLAKE2.
            cache_none: whether ``None`` is stored.
            source_check: the source of the function is part of the key; ``CACHE_SOURCE_CHECK`` when left out. ``False``
                takes two functions of one name for one.
            args_to_ignore: names of arguments that are not part of the key.

        Raises:
            ConfigError: the timeout is not usable.
        """
        lifetime(timeout)

        def decorate(f: Callable[P, R]) -> MemoizedFunction[P, R]:
            memoized = Memoized(f, args_to_ignore or (), by_name=source_check is False)

            def key_of(args: Args, kwargs: Kwargs) -> str:
                name = make_name(function_namespace(f)[0]) if callable(make_name) else ""
                return memoized.key(
                    args, kwargs, (name, source_hash(f, self.hash_method) if self._checks(source_check) else "")
                )

            def timeout_of(_: object) -> Timeout:
                given = decorated.cache_timeout
                return self.cache.default_timeout if given is None else given

            plan = Plan(
                lambda args, kwargs: call(f, self.app, args, kwargs),
                f"{f.__module__}.{f.__qualname__}",
                "pass it as an argument",
                Options(unless, forced_update, is_stale, response_filter, cache_none),
                self._backend,
                key_of,
                lambda args, kwargs: reading([lambda: is_true(unless, f, *args, **kwargs)]),
                timeout_of,
                memoized.tags,
                on_miss=lambda key, args, kwargs: self._send(cache_memoize_miss, key, args, kwargs, f=f),
                is_debug=lambda: self.app.debug,
            )

            @functools.wraps(f)
            def call_memoized(*args: Any, **kwargs: Any) -> Any:
                if unless is not None and is_true(unless, f, *args, **kwargs):
                    return call(f, self.app, args, kwargs)
                load = Load(plan, args, kwargs)
                answer = load.get()
                if load.answer is MISSING:
                    self._send(cache_memoize_hit, load.key, args, kwargs, f=f)
                return answer

            decorated = cast("MemoizedFunction[P, R]", call_memoized)
            decorated.uncached = f
            decorated.cache_timeout = timeout
            decorated.make_cache_key = lambda _, *args, **kwargs: key_of(args, kwargs)
            decorated.delete_memoized = lambda: self.delete_memoized(decorated)
            cast(Any, decorated)._rcache_memoized = memoized
            return decorated

        return decorate

    def delete_memoized(self, f: Any, *args: Any, **kwargs: Any) -> None:
        """Make values of a memoized function invalid, also those that are being loaded.

        Args:
            f: the memoized function: all its values; of a bound method, those of the object.
            args: with arguments: the value of that call alone.
            kwargs: the same.

        Raises:
            TypeError: no memoized function.
            ValueError: the arguments lack the object, or the class of a class method.
        """
        memoized = _memoized(f)
        instance = getattr(f, "__self__", None)
        if not (args or kwargs):
            is_of_one = memoized.owner == "self" and instance is not None and not isinstance(instance, type)
            self.cache.invalidate(memoized.tag_of(instance) if is_of_one else memoized.tag())
            return
        if memoized.owner == "self" and instance is not None and not (args and args[0] is instance):
            args = (instance, *args)
        if memoized.owner and not args:
            raise ValueError(f"delete_memoized of a method with arguments needs {memoized.owner} as the first one")
        if memoized.owner == "cls" and not isinstance(args[0], type):
            raise ValueError("delete_memoized of a class method with arguments needs the class as the first one")
        self.delete(f.make_cache_key(f.uncached, *args, **kwargs))

    def delete_memoized_verhash(self, f: Any, *_: Any) -> None:
        """The same as :meth:`delete_memoized` of the whole function.

        Raises:
            TypeError: no memoized function.
        """
        self.delete_memoized(f)

    # Behind them

    def _send(self, signal: Any, key: str, args: Any, kwargs: Any, **more: Any) -> None:
        if self.enable_signals:
            signal.send(cache=self, cache_key=key, args=args, kwargs=kwargs, **more)

    def _backend(self) -> KeyValues | NoValues:
        return self.cache

    def _checks(self, source_check: bool | None) -> bool:
        return self.source_check if source_check is None else source_check


def _memoized(f: Any) -> Memoized:
    """What a memoized function, or a bound one, is in keys."""
    memoized = getattr(f, "_rcache_memoized", None)
    if not isinstance(memoized, Memoized):
        raise TypeError(f"delete_memoized takes a function that is decorated with memoize, not {f!r:.80}")
    return memoized


def _indicate_hit(response: Response) -> Response:
    response.headers["hit_cache"] = "True"
    return response


def _check_config(config: object) -> None:
    if not (config is None or isinstance(config, dict)):
        raise ValueError(f"config must be a dict of settings, or None, not {type(config).__name__}")
