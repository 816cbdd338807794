"""``@cache_response``: the decorator, its options, and the two wrappers (threads, asyncio).

Owns what a user writes above a view. What happens to a request is ``lookup``'s and ``visit``'s, what is stored
``commit``'s.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast, overload

from flask import Request, Response
from flask.typing import ResponseReturnValue

from ..context import EXTENSION, context
from ..engine import tracing
from ..engine.manager import CacheManager
from ..engine.waiting import drive, drive_async
from ..errors import ConfigError
from ..http import Reason
from ..model.cache_type import FROM_HEADERS, CacheType, Ttl, check_tags, check_ttl
from ..model.callable_keys import function_name
from ..model.keys import Key, user_tag
from .binding import Options
from .commit import conclude
from .visit import Visit, is_failure, plain

__all__ = ["CachedView", "cache_response"]

P = ParamSpec("P")
Q = ParamSpec("Q")
R_co = TypeVar("R_co", covariant=True)

KeyFunc = Callable[[Request], Key | None]
Tags = Iterable[str] | Callable[..., Iterable[str]]


class CachedView(Protocol[P, R_co]):
    """A decorated view: called as before, it always returns a ``Response``."""

    __name__: str

    @property
    def uncached(self) -> Callable[P, Any]:
        """The plain view."""
        ...

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Answer from the cache, or call the view and keep what it returns."""
        ...

    @overload
    def __get__(self, instance: None, owner: type) -> CachedView[P, R_co]: ...
    @overload
    def __get__(
        self: CachedView[Concatenate[Any, Q], R_co], instance: object, owner: type | None = None
    ) -> Callable[Q, R_co]: ...


class _Decorate(Protocol):
    # In this order: a checker takes the first for a view without annotations.
    @overload
    def __call__(self, view: Callable[P, ResponseReturnValue]) -> CachedView[P, Response]: ...
    @overload
    def __call__(
        self, view: Callable[P, Awaitable[ResponseReturnValue]]
    ) -> CachedView[P, Coroutine[Any, Any, Response]]: ...


def cache_response(
    cache_type: CacheType | str,
    ttl: Ttl | None = None,
    key_func: KeyFunc | None = None,
    *,
    tags: Tags = (),
    vary: Iterable[str] = (),
    shared: bool = False,
    unless: Callable[..., bool] | None = None,
) -> _Decorate:
    """Cache a view's response. Auth decorators go *above* this one: what is below it does not run on a hit.

    Args:
        cache_type: the policy, or its registered name.
        ttl: seconds; the type's when left out. ``FROM_HEADERS`` takes the response's own.
        key_func: called with the request, names the entry within the type; ``None`` means: not this request.
        tags: labels by which the entry can be invalidated, or a function of the view's keyword arguments.
        vary: request fields that select the answer, beside those the response names in ``Vary``.
        shared: the answer is the same for everyone, so requests with credentials may have it too.
        unless: called with the request; true passes the cache by. It gets the view's keyword arguments too when it
            takes more than one.

    Returns:
        A decorator for functions, async functions and methods. ``.uncached`` of the result is the plain view.

    Raises:
        ConfigError: an option is not usable.
    """
    if not isinstance(cache_type, CacheType | str):
        raise ConfigError(
            f"@cache_response takes a CacheType or its name first, not {type(cache_type).__name__}: "
            "write @cache_response(CacheType.DASHBOARD)"
        )
    if ttl is not None and ttl is not FROM_HEADERS:
        check_ttl(ttl)
    members = None if callable(tags) else tuple(map(user_tag, check_tags(tags)))
    fields = tuple(sorted({name.lower() for name in check_tags(vary, what="vary")}))
    for name, function in (("key_func", key_func), ("unless", unless)):
        if function is not None and not callable(function):
            raise ConfigError(f"{name} must be a function of the request, not {function!r}")

    def decorate(view: Callable[..., Any]) -> Any:
        options = Options(
            function=function_name(view),
            cache_type=cache_type,
            ttl=ttl,
            key_func=key_func,
            composes=bool(getattr(key_func, "composes", False)),
            members=members,
            tags=tags if callable(tags) else None,
            vary=fields,
            shared=shared,
            unless=unless,
            unless_takes_arguments=unless is not None and _takes_more_than_one(unless),
            signature=inspect.signature(view),
        )
        wrapper: Any = _async_wrapper(view, options) if inspect.iscoroutinefunction(view) else _wrapper(view, options)
        functools.update_wrapper(wrapper, view)
        wrapper.uncached = view
        wrapper.rcache_options = options
        return wrapper

    return cast(_Decorate, decorate)


def _wrapper(view: Callable[..., Any], options: Options) -> Callable[..., Response]:
    def cached(*args: Any, **kwargs: Any) -> Response:
        if tracing.wanted:
            with _span(options):
                return _proceed(Visit.begin(options, args, kwargs), view, options, args, kwargs)
        visit = Visit.begin(options, args, kwargs)
        if isinstance(visit, Response):
            return visit
        return _proceed(visit, view, options, args, kwargs)

    return cached


def _proceed(
    visit: Response | Visit | Reason,
    view: Callable[..., Any],
    options: Options,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Response:
    """What follows the look."""
    if isinstance(visit, Response):
        return visit
    if not isinstance(visit, Visit):
        return plain(view(*args, **kwargs), visit, options)
    admitted = drive(visit.admit())
    if admitted is not None:
        return admitted
    try:
        with visit.running():
            returned = view(*args, **kwargs)
    except Exception as error:
        stale = visit.salvaged() if is_failure(error) else None
        if stale is None:
            raise
        return stale
    return conclude(visit, returned)


def _async_wrapper(view: Callable[..., Any], options: Options) -> Callable[..., Coroutine[Any, Any, Response]]:
    async def cached(*args: Any, **kwargs: Any) -> Response:
        with _span(options) if tracing.wanted else nullcontext():
            visit = Visit.begin(options, args, kwargs)
            if isinstance(visit, Response):
                return visit
            if not isinstance(visit, Visit):
                return plain(await view(*args, **kwargs), visit, options)
            admitted = await drive_async(visit.admit())
            if admitted is not None:
                return admitted
            try:
                with visit.running():
                    returned = await view(*args, **kwargs)
            except Exception as error:
                stale = visit.salvaged() if is_failure(error) else None
                if stale is None:
                    raise
                return stale
            return conclude(visit, returned)

    return cached


def _span(options: Options) -> AbstractContextManager[None]:
    """The span of a request, when the app's cache has a tracer."""
    ctx = context()
    manager: CacheManager | None = None if ctx is None else ctx.app.extensions.get(EXTENSION)
    if manager is None or manager.tracer is None:
        return nullcontext()
    return tracing.span(manager.tracer, manager.registry.resolve(options.cache_type).name)


def _takes_more_than_one(function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin tells nothing of itself
        return False
    return len(parameters) > 1 or any(each.kind is each.VAR_KEYWORD for each in parameters)
