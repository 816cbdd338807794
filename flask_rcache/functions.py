"""What users call on the current app: ``@cached`` functions, and the invalidation and statistics functions.

Owns :func:`cached` and the module-level short forms of the manager's methods.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

from .context import current_cache
from .engine.single_flight import current_load
from .errors import ConfigError
from .model.cache_type import CacheType, check_tags, check_ttl
from .model.callable_keys import captured, closed_over, function_name, is_method, object_key
from .model.keys import Key

__all__ = [
    "CachedFunction",
    "cached",
    "clear_all",
    "get_cache_stats",
    "invalidate_cache_type",
    "invalidate_key",
    "invalidate_pattern",
    "invalidate_tags",
]

P = ParamSpec("P")
R = TypeVar("R")
Tags = Iterable[str] | Callable[..., Iterable[str]]


class CachedFunction(Generic[P, R]):
    """A function whose values are cached; called as before.

    Args:
        function: the plain function.
        cache_type: the policy, or its registered name.
        ttl: seconds; the type's when left out.
        key_func: called with the function's arguments, names the entry; ``None``: not this call.
        tags: labels, or a function of the arguments.
        unless: called with the arguments; true passes the cache by.
    """

    def __init__(
        self,
        function: Callable[P, R],
        cache_type: CacheType | str,
        ttl: float | None,
        key_func: Callable[..., Key | None] | None,
        *,
        tags: Tags,
        unless: Callable[..., bool] | None,
    ) -> None:
        self._name = function_name(function)
        functools.update_wrapper(self, function)
        self._function = function
        self._signature = inspect.signature(function)
        self._is_async = inspect.iscoroutinefunction(function)
        self._is_method = is_method(function)
        self._bound_to = function.__self__ if inspect.ismethod(function) else None
        # Functions made by one function differ in nothing else; what is at the top of a module is there once.
        self._cells = captured(function) if "<locals>" in self._name else ()
        self._cache_type = cache_type
        self._ttl = ttl
        self._key_func = key_func
        self._tags = tags if callable(tags) else check_tags(tags)
        self._unless = unless

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
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

    def uncached(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The plain function's value; the cache is neither read nor filled."""
        return self._function(*args, **kwargs)

    def key(self, *args: P.args, **kwargs: P.kwargs) -> Key | None:
        """The key of a call within its cache type."""
        return self._key(args, kwargs)

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Remove the entry of a call; whether it was there."""
        key = self._key(args, kwargs)
        return key is not None and current_cache.delete(self._cache_type, key)

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Load the value of a call anew and store it, whatever is cached."""
        key = self._key(args, kwargs)
        if key is not None:
            current_cache.delete(self._cache_type, key)
        return self._fetch(args, kwargs)

    def _fetch(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
        key = None if self._unless is not None and self._unless(*args, **kwargs) else self._key(args, kwargs)
        if key is None and current_load() is None:
            return self._function(*args, **kwargs)
        tags = self._tags(*args, **kwargs) if callable(self._tags) else self._tags
        if key is None:
            current_cache.depend(self._cache_type, tags)
            return self._function(*args, **kwargs)
        cache = current_cache
        load = functools.partial(self._function, *args, **kwargs)
        if self._is_async:
            return cast(R, cache.afetch(self._cache_type, key, cast(Any, load), ttl=self._ttl, tags=tags))
        return cache.fetch(self._cache_type, key, load, ttl=self._ttl, tags=tags)

    def _key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Key | None:
        """What was called, and its arguments as they bind: ``f(1)``, ``f(x=1)`` and a default of 1 are one key."""
        if self._key_func is not None:
            return self._key_func(*args, **kwargs)
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        arguments = dict(bound.arguments)
        owner: Key = () if self._bound_to is None else object_key(self._bound_to, self._name)
        if self._is_method:
            first, *rest = bound.arguments.items()
            if self._signature.parameters[first[0]].kind is inspect.Parameter.VAR_POSITIONAL:
                owner, arguments[first[0]] = object_key(first[1][0], self._name), first[1][1:]
            else:
                owner, arguments = object_key(first[1], self._name), dict(rest)
        if owner or self._cells:
            return (self._name, arguments, owner, closed_over(self._cells))
        return (self._name, arguments)


class CachedMethod(Generic[R]):
    """A cached function bound to an object; all of its calls take the arguments after ``self``."""

    __slots__ = ("__func__", "__self__", "invalidate", "key", "refresh", "uncached")

    def __init__(self, function: CachedFunction[..., R], instance: object) -> None:
        self.__self__ = instance
        self.invalidate: Callable[..., bool] = functools.partial(function.invalidate, instance)
        self.key: Callable[..., Key | None] = functools.partial(function.key, instance)
        self.refresh: Callable[..., R] = functools.partial(function.refresh, instance)
        self.uncached: Callable[..., R] = functools.partial(function.uncached, instance)
        self.__func__ = function

    def __call__(self, *args: Any, **kwargs: Any) -> R:
        """The cached value, or the method's, which is stored."""
        return self.__func__(self.__self__, *args, **kwargs)


def cached(
    cache_type: CacheType | str = CacheType.DEFAULT,
    ttl: float | None = None,
    key_func: Callable[..., Key | None] | None = None,
    *,
    tags: Tags = (),
    unless: Callable[..., bool] | None = None,
) -> Callable[[Callable[P, R]], CachedFunction[P, R]]:
    """Cache a function's values; the arguments are the key.

    Args:
        cache_type: the policy, or its registered name.
        ttl: seconds; the type's when left out.
        key_func: called with the function's arguments, names the entry; ``None``: not this call.
        tags: labels by which entries can be invalidated, or a function of the arguments.
        unless: called with the arguments; true passes the cache by.

    Returns:
        A decorator; its result has ``.invalidate``, ``.refresh``, ``.uncached`` and ``.key``, given the arguments.

    Raises:
        ConfigError: an option is not usable.
    """
    if not isinstance(cache_type, CacheType | str):
        raise ConfigError(f"@cached takes a CacheType or its name first: write @cached() over {cache_type!r}")
    if ttl is not None:
        check_ttl(ttl)

    def decorate(function: Callable[P, R]) -> CachedFunction[P, R]:
        return CachedFunction(function, cache_type, ttl, key_func, tags=tags, unless=unless)

    return decorate


def invalidate_cache_type(cache_type: CacheType | str, *, soft: bool = False) -> int:
    """See :meth:`CacheManager.invalidate_type <flask_rcache.CacheManager.invalidate_type>`."""
    return current_cache.invalidate_type(cache_type, soft=soft)


def invalidate_tags(*tags: str, soft: bool = False) -> int:
    """See :meth:`CacheManager.invalidate_tags <flask_rcache.CacheManager.invalidate_tags>`."""
    return current_cache.invalidate_tags(*tags, soft=soft)


def invalidate_pattern(pattern: str, *, type: CacheType | str | None = None) -> int:
    """See :meth:`CacheManager.invalidate_pattern <flask_rcache.CacheManager.invalidate_pattern>`."""
    return current_cache.invalidate_pattern(pattern, type=type)


def invalidate_key(cache_type: CacheType | str, key: Key) -> bool:
    """See :meth:`CacheManager.delete <flask_rcache.CacheManager.delete>`."""
    return current_cache.delete(cache_type, key)


def clear_all() -> int:
    """See :meth:`CacheManager.clear_all <flask_rcache.CacheManager.clear_all>`."""
    return current_cache.clear_all()


def get_cache_stats() -> dict[str, object]:
    """See :meth:`CacheManager.stats <flask_rcache.CacheManager.stats>`."""
    return current_cache.stats()
