"""What users call on the current app: ``@cached`` functions, and the invalidation and statistics functions.

Owns :func:`cached` and the module-level short forms of the manager's methods. What tells two functions apart is
``callable_keys``'s, what a function reads of the request is seen by ``observed``.
"""

from __future__ import annotations

import copy
import functools
import inspect
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Any, Final, Generic, ParamSpec, TypeVar, cast, overload
from weakref import WeakSet

from .codec import Errors
from .context import current_cache, request_context
from .engine.calls import NEVER
from .engine.invalidations import Invalidated
from .engine.loading import current_load
from .engine.statistics import CacheStats
from .errors import ConfigError
from .model.cache_type import AUTO, CacheType, Tags, check_ttl, split_tags
from .model.callable_keys import Identity, function_name, is_method, object_key, signature_of
from .model.keys import Key
from .observed import Observed, describe, observing, session_of

__all__ = [
    "CachedFunction",
    "CachedMethod",
    "FoundTags",
    "ResultTtl",
    "cached",
    "clear_all",
    "get_cache_stats",
    "invalidate_cache_type",
    "invalidate_key",
    "invalidate_pattern",
    "invalidate_tags",
    "invalidate_url",
    "misplaced",
]

P = ParamSpec("P")
R = TypeVar("R")
FoundTags = Tags | Callable[..., Tags]
#: Seconds, a duration, or a function of the result.
ResultTtl = float | timedelta | Callable[[Any], float | timedelta]

logger: Final = logging.getLogger("flask_rcache")


class _Options:
    """What one ``@cached`` says.

    Args:
        cache_type: the policy, or its registered name.
        ttl: seconds, a duration, or a function of the result; ``None``: the type's.
        key_func: called with the function's arguments, names the entry; ``None``: not this call.
        tags: labels, or a function of the arguments.
        unless: called with the arguments; true bypasses the cache.
        keep: called with the result; false: it is not stored.
        errors: the exceptions that are answers, by class, with the seconds that they are stored.

    Raises:
        ConfigError: one of them is not usable.
    """

    __slots__ = ("cache_type", "errors", "keep", "key_func", "tags", "ttl", "unless")

    def __init__(
        self,
        cache_type: CacheType | str,
        ttl: ResultTtl | None,
        key_func: Callable[..., Key | None] | None,
        *,
        tags: FoundTags,
        unless: Callable[..., object] | None,
        keep: Callable[[Any], object] | None,
        errors: Mapping[type[Exception], float | timedelta] | None,
    ) -> None:
        if not isinstance(cache_type, CacheType | str):
            raise ConfigError(f"@cached takes a CacheType or its name first: write @cached() over {cache_type!r:.80}")
        for name, option in (("key_func", key_func), ("unless", unless), ("keep", keep)):
            if option is not None and not callable(option):
                raise ConfigError(f"{name} of @cached must be a function, not {option!r:.80}")
        self.cache_type: Final = cache_type
        self.ttl: Final = ttl if ttl is None or callable(ttl) else check_ttl(ttl)
        self.key_func: Final = key_func
        self.tags: Final = tags if callable(tags) else _checked(tags)
        self.unless: Final = unless
        self.keep: Final = keep
        self.errors: Final = None if errors is None else Errors(errors)


def _checked(tags: Tags) -> Tags:
    """The tags, once they are known to be usable."""
    observes, plain = split_tags(tags)
    return (AUTO, *plain) if observes else plain


class _Call:
    """One call on its way through the cache: what its function reads of the request decides on storing its result.

    Args:
        function: what is called.
        args: with what.
        kwargs: the same.
    """

    __slots__ = ("_args", "_does", "_function", "_kwargs", "_reads")

    def __init__(self, function: CachedFunction[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._function: Final = function
        self._args: Final = args
        self._kwargs: Final = kwargs
        self._reads: frozenset[str] = frozenset()
        self._does = ""

    def load(self) -> Any:
        """The plain function's value."""
        with self._observed():
            return self._function.uncached(*self._args, **self._kwargs)

    async def aload(self) -> Any:
        """The plain coroutine function's value."""
        with self._observed():
            return await self._function.uncached(*self._args, **self._kwargs)

    @contextmanager
    def _observed(self) -> Iterator[None]:
        before = _effects()
        with _observing() as observed:
            try:
                yield
            finally:
                self._reads |= observed.beside([*self._args, *self._kwargs.values()])
                self._does = self._does or next(
                    (what for what, is_now in _effects().items() if is_now != before.get(what)), ""
                )

    def keep(self, result: Any) -> object:
        """Whether the result is stored."""
        keep = self._function.options.keep
        own = self.keep_error()
        return own if own is not True or keep is None else bool(keep(result))

    def keep_error(self) -> object:
        """Whether what the function raised may be stored; it is not where the function has read the request."""
        reads = self._reads - self._read_by_key() if self._reads else None
        if reads:
            self._function.warn(f"reads {describe(reads)}, which its key does not contain; pass that as an argument")
            return NEVER
        if self._does:
            self._function.warn(f"{self._does}, which a hit would not do; do that where it is called")
            return NEVER
        return True

    def _read_by_key(self) -> frozenset[str]:
        """What the app's own ``key_func`` reads: that is in the key."""
        key_func = self._function.options.key_func
        if key_func is None:
            return frozenset()
        with _observing() as observed:
            key_func(*self._args, **self._kwargs)
        return frozenset(observed.reads)


def _effects() -> dict[str, object]:
    """What a function may do to a request beside returning a value, and what it is now."""
    ctx = request_context()
    if ctx is None:
        return {}
    session = session_of(ctx)
    return {
        "registers a function with after_this_request": len(getattr(ctx, "_after_request_functions", ())),
        "changes the session": dict.copy(session) if isinstance(session, dict) else None,
    }


def _observing() -> AbstractContextManager[Observed]:
    return observing(request_context(), current_cache.settings.identity_g)


class CachedFunction(Generic[P, R]):
    """A function whose values are cached; called as before.

    Args:
        function: the plain function.
        options: of the decorator.

    Raises:
        ConfigError: calls of the function can't be told from those of others.
    """

    def __init__(self, function: Callable[P, R], options: _Options) -> None:
        functools.update_wrapper(self, function, updated=())
        for name, item in getattr(function, "__dict__", {}).items():  # what other decorators have left there
            if name not in vars(self) and not hasattr(CachedFunction, name):
                setattr(self, name, item)
        self.options: Final = options
        self._identity: Final = Identity(function, describes=True)
        self._function: Final = function
        self._parameters: Final = Parameters(function)
        self._is_async: Final = inspect.iscoroutinefunction(function)
        self._is_method = is_method(function)
        self._warned: Final[set[str]] = set()
        if self._is_async and sys.version_info >= (3, 12):
            inspect.markcoroutinefunction(self)
        _decorated.add(self)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """The cached value, or the function's, which is stored."""
        return self._fetch(args, kwargs)

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> CachedFunction[P, R]: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> CachedMethod[R]: ...
    def __get__(self, instance: object, owner: type | None = None) -> CachedFunction[P, R] | CachedMethod[R]:
        """Bound to an object, as a method is; the object is part of the key."""
        if instance is None:
            return self
        if self._is_method:
            return CachedMethod(self, instance)
        method = copy.copy(self)  # a function that became a method later, or whose first argument has its own name
        method._is_method = True
        return CachedMethod(method, instance)

    def uncached(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """The plain function's value for these arguments; the cache is neither read nor filled."""
        return self._function(*args, **kwargs)

    def key(self, /, *args: P.args, **kwargs: P.kwargs) -> Key | None:
        """The key of a call with these arguments, within its cache type; ``None`` for one that is not cached.

        Raises:
            InvalidKeyError: an argument can't be in a key.
        """
        return self._key(args, kwargs)

    def invalidate(self, /, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Remove the entry of a call with these arguments; whether it was there.

        Raises:
            InvalidKeyError: an argument can't be in a key.
        """
        key = self._key(args, kwargs)
        return key is not None and current_cache.delete(self.options.cache_type, key)

    def refresh(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Load the value of a call with these arguments now, and replace what is cached.

        Raises:
            Exception: whatever the function raises; what is cached stays.
        """
        return self._fetch(args, kwargs, refresh=True)

    @property
    def name(self) -> str:
        """``module:qualname``, as warnings show it."""
        return self._identity.name

    @property
    def plain(self) -> Callable[P, R]:
        """The function as it was decorated."""
        return self._function

    def warn(self, why: str) -> None:
        """Say that results are not stored, and why; once."""
        if not self._warned:
            self._warned.add(why)
            logger.warning("[CACHE] %s is not cached: it %s", self.name, why)

    def _fetch(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, refresh: bool = False) -> R:
        options = self.options
        key = None if options.unless is not None and options.unless(*args, **kwargs) else self._key(args, kwargs)
        if key is None and current_load() is None:
            return self._function(*args, **kwargs)
        tags = options.tags(*args, **kwargs) if callable(options.tags) else options.tags
        cache = current_cache
        if key is None:
            cache.depend(options.cache_type, tags)
            return self._function(*args, **kwargs)
        call = _Call(self, args, kwargs)
        how: dict[str, Any] = {"ttl": options.ttl, "tags": tags, "keep": call.keep, "name": self._identity.name}
        how["judged"] = True
        if options.errors is not None:
            how["errors"] = options.errors.kept_if(call.keep_error)
        if self._is_async:
            return cast(R, cache.afetch(options.cache_type, key, call.aload, refresh=refresh, **how))
        return cast(R, cache.fetch(options.cache_type, key, call.load, refresh=refresh, **how))

    def _key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Key | None:
        """What was called, and its arguments as they bind: ``f(1)``, ``f(x=1)`` and a default of 1 are one key."""
        if self.options.key_func is not None:
            return self.options.key_func(*args, **kwargs)
        identity = self._identity
        arguments = self._parameters.bind(args, kwargs)
        owner: Key = ()
        if self._is_method:
            name, value = next(iter(arguments.items()))
            if name == self._parameters.variable:
                bound, arguments[name] = value[0], value[1:]
            else:
                bound = arguments.pop(name)
            owner = object_key(bound, identity.name)
        more = identity()
        return (identity.name, arguments, owner, more) if owner or more else (identity.name, arguments)


class Parameters:
    """A function's parameters, and how the arguments of a call bind to them."""

    __slots__ = ("_defaults", "_function", "_is_simple", "_names", "_signature", "variable")

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function: Final = function
        self._signature: Final = signature_of(function)
        parameters = self._signature.parameters.values()
        #: The name of ``*args``, or ``None``.
        self.variable: Final = next((each.name for each in parameters if each.kind is each.VAR_POSITIONAL), None)
        self._names: Final = [
            each.name for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
        ]
        self._defaults: Final = {each.name: each.default for each in parameters if each.default is not each.empty}
        #: Whether a call that names no argument binds to names in order, and to defaults.
        self._is_simple: Final = all(
            each.name in self._names or (each.kind is each.KEYWORD_ONLY and each.name in self._defaults)
            for each in parameters
        )

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments by name, the first parameter first.

        Raises:
            TypeError: the function does not take them.
        """
        if self._is_simple and not kwargs and len(args) <= len(self._names):
            arguments = dict(zip(self._names, args, strict=False))
            if len(arguments) < len(self._names) or self._defaults:
                for name, value in self._defaults.items():
                    arguments.setdefault(name, value)
            if len(arguments) >= len(self._names):
                return arguments
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError:  # a wrapper that adds arguments takes others than what it wraps
            bound = inspect.signature(self._function, follow_wrapped=False).bind(*args, **kwargs)
        bound.apply_defaults()
        return dict(bound.arguments)


class CachedMethod(Generic[R]):
    """A cached function bound to an object; all of its calls take the arguments after ``self``."""

    __slots__ = ("__func__", "__self__")

    def __init__(self, function: CachedFunction[..., R], instance: object) -> None:
        self.__func__: Final = function
        self.__self__: Final = instance

    def __call__(self, /, *args: Any, **kwargs: Any) -> R:
        """The cached value, or the method's, which is stored."""
        return self.__func__(self.__self__, *args, **kwargs)

    def uncached(self, /, *args: Any, **kwargs: Any) -> R:
        """See :meth:`CachedFunction.uncached`."""
        return self.__func__.uncached(self.__self__, *args, **kwargs)

    def key(self, /, *args: Any, **kwargs: Any) -> Key | None:
        """See :meth:`CachedFunction.key`."""
        return self.__func__.key(self.__self__, *args, **kwargs)

    def invalidate(self, /, *args: Any, **kwargs: Any) -> bool:
        """See :meth:`CachedFunction.invalidate`."""
        return self.__func__.invalidate(self.__self__, *args, **kwargs)

    def refresh(self, /, *args: Any, **kwargs: Any) -> R:
        """See :meth:`CachedFunction.refresh`."""
        return self.__func__.refresh(self.__self__, *args, **kwargs)


def cached(
    cache_type: CacheType | str = CacheType.DEFAULT,
    ttl: ResultTtl | None = None,
    key_func: Callable[..., Key | None] | None = None,
    *,
    tags: FoundTags = (),
    unless: Callable[..., object] | None = None,
    keep: Callable[[Any], object] | None = None,
    errors: Mapping[type[Exception], float | timedelta] | None = None,
) -> Callable[[Callable[P, R]], CachedFunction[P, R]]:
    """Cache a function's values; the arguments are the key.

    In a request, a result for which the function has read the session, ``current_user``, headers, cookies, arguments or
    other data of the request is not stored, and one warning names the function and what it read. What ``key_func``
    reads counts as part of the key.

    Args:
        cache_type: the policy, or its registered name.
        ttl: seconds, a ``timedelta``, or a function of the result; the type's when left out.
        key_func: called with the function's arguments, names the entry; ``None``: not this call.
        tags: labels by which entries can be invalidated, or a function of the arguments; :data:`AUTO` for the tables
            and rows that it reads.
        unless: called with the arguments; true bypasses the cache.
        keep: called with the result; false: it is not stored.
        errors: the exceptions that are answers, by class, with the seconds that each is stored: ``{NotFound: 30}``. It
            is raised again, in every process; other exceptions are never stored.

    Returns:
        A decorator; its result has ``.invalidate``, ``.refresh``, ``.uncached`` and ``.key``, given the arguments.

    Raises:
        ConfigError: an option is not usable, or what is decorated is no function.
    """
    options = _Options(cache_type, ttl, key_func, tags=tags, unless=unless, keep=keep, errors=errors)

    def decorate(function: Callable[P, R]) -> CachedFunction[P, R]:
        _check_place(function)
        return CachedFunction(function, options)

    return decorate


def _check_place(decorated: Any) -> None:
    """Refuse what is no plain function, and say where the decorator belongs.

    Raises:
        ConfigError: it is something else.
    """
    for kind in (classmethod, staticmethod, property, functools.cached_property):
        if isinstance(decorated, kind):
            raise ConfigError(f"@cached belongs below @{kind.__name__}: write @{kind.__name__} above it")
    if isinstance(decorated, type):
        name = decorated.__name__
        raise ConfigError(f"@cached takes a function, not the class {name}: decorate a function that returns a {name}")
    if not callable(decorated):
        raise ConfigError(f"@cached takes a function, not a {type(decorated).__name__}: put it right above the def")
    if inspect.isgeneratorfunction(decorated) or inspect.isasyncgenfunction(decorated):
        raise ConfigError(
            f"{function_name(decorated)} yields its values, so there is nothing to store: return a list of them instead"
        )


_decorated: Final[WeakSet[CachedFunction[..., Any]]] = WeakSet()


def misplaced(views: Iterable[Callable[..., Any]]) -> list[str]:
    """The names of cached functions whose plain function is among an app's views: ``@cached`` stands above the route.

    Args:
        views: the view functions that the app has.
    """
    known = {id(view) for view in views}
    return sorted(each.name for each in tuple(_decorated) if id(each.plain) in known)


def invalidate_cache_type(cache_type: CacheType | str) -> Invalidated:
    """See :meth:`CacheManager.invalidate_type <flask_rcache.CacheManager.invalidate_type>`."""
    return current_cache.invalidate_type(cache_type)


def invalidate_tags(*tags: str) -> Invalidated:
    """See :meth:`CacheManager.invalidate_tags <flask_rcache.CacheManager.invalidate_tags>`."""
    return current_cache.invalidate_tags(*tags)


def invalidate_pattern(pattern: str, *, type: CacheType | str | None = None) -> Invalidated:
    """See :meth:`CacheManager.invalidate_pattern <flask_rcache.CacheManager.invalidate_pattern>`."""
    return current_cache.invalidate_pattern(pattern, type=type)


def invalidate_url(url_or_path: str) -> Invalidated:
    """See :meth:`CacheManager.invalidate_url <flask_rcache.CacheManager.invalidate_url>`."""
    return current_cache.invalidate_url(url_or_path)


def invalidate_key(cache_type: CacheType | str, key: Key) -> bool:
    """See :meth:`CacheManager.delete <flask_rcache.CacheManager.delete>`."""
    return current_cache.delete(cache_type, key)


def clear_all() -> Invalidated:
    """See :meth:`CacheManager.clear_all <flask_rcache.CacheManager.clear_all>`."""
    return current_cache.clear_all()


def get_cache_stats() -> CacheStats:
    """See :meth:`CacheManager.stats <flask_rcache.CacheManager.stats>`."""
    return current_cache.stats()
