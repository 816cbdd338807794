"""``@cache_response``: the decorator, the check of its options, and the two wrappers (threads, asyncio).

Owns what a user writes above a view, and what is refused there. What happens to a request is ``exchange``'s, what is
stored ``commit``'s.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from types import CodeType, MethodType
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar, cast, overload
from weakref import WeakKeyDictionary

from flask import Request, Response, current_app
from flask.typing import ResponseReturnValue

from ..context import request_context
from ..engine.invalidations import Invalidated
from ..errors import ConfigError, InvalidKeyError
from ..http import Reason
from ..model.cache_type import CacheType, Tags, Ttl, check_lifetime, check_tags, split_tags
from ..model.callable_keys import Identity, is_method
from ..model.keys import Key, user_tag
from ..model.objects import attributes
from ..observed import observe, raw_environ, session_of
from . import calls
from .bound import EXTENSION, AppViews
from .commit import bypassed, conclude
from .exchange import Found
from .layers import Returned, claimed, note_wrapper
from .lookup import look_up
from .options import Options, note_decorated
from .validators import Stating

__all__ = ["CachedView", "cache_response"]

P = ParamSpec("P")
Q = ParamSpec("Q")
R_co = TypeVar("R_co", covariant=True)

KeyFunc = Callable[[Request], Key | None]
FoundTags = Tags | Callable[..., Tags]
#: Fields that select the answer, with a function of the request that gives the value of one, where there is one.
Vary = Iterable[str] | Mapping[str, Callable[[Request], object] | None]

_VARY: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+|(?:cookie|arg):[!-+\--~]+")

#: What is decorated in the wrong order: the type, and how it is written.
_WRAPPED: Final[tuple[tuple[type, str], ...]] = (
    (classmethod, "@classmethod"),
    (staticmethod, "@staticmethod"),
    (property, "@property"),
    (functools.cached_property, "@cached_property"),
)


class CachedView(Protocol[P, R_co]):
    """A decorated view: called as before, it always returns a ``Response``."""

    __name__: str

    @property
    def uncached(self) -> Callable[P, Any]:
        """The plain view."""
        ...

    def invalidate(self, *args: Any, **kwargs: Any) -> Invalidated:
        """Remove the answers to a call with these arguments of the view: of all hosts, queries, variants and users."""
        ...

    def key(self, *args: Any, **kwargs: Any) -> str:
        """The stored key of the answer to a call with these arguments, for the current host and without a query."""
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
    @overload
    def __call__(self, view: Callable[P, object]) -> CachedView[P, Any]: ...  # a decorator above makes the response


def cache_response(
    cache_type: CacheType | str = CacheType.DEFAULT,
    ttl: Ttl | None = None,
    key_func: KeyFunc | None = None,
    *,
    tags: FoundTags = (),
    vary: Vary = (),
    shared: bool = False,
    unless: Callable[..., object] | None = None,
    keep: Callable[[Response], object] | None = None,
) -> _Decorate:
    """Cache a view's response. It stands directly above the view, below the route and below auth decorators.

    What is below it does not run on a hit.

    Args:
        cache_type: the policy, or its registered name.
        ttl: seconds or a ``timedelta``; the type's when left out. ``FROM_HEADERS`` takes the response's own.
        key_func: called with the request, names the entry within the type; ``None`` means: not this request.
        tags: labels by which the entry can be invalidated, or a function of the view's keyword arguments; :data:`AUTO`
            for the tables and rows that it reads.
        vary: request fields that select the answer, beside those the response names in ``Vary``: header fields,
            ``cookie:lang`` for one cookie, ``arg:page`` for an argument. A dict gives for each a function of the
            request that returns the value, or ``None``: ``{"Accept-Language": best_language}``.
        shared: the answer is the same for everyone, so requests with credentials may have it too.
        unless: called with the request; true bypasses the cache. It gets the view's keyword arguments too when it takes
            more than one.
        keep: called with the response; false: it is not stored.

    Returns:
        A decorator for functions, async functions and methods. The result has ``.uncached``, the plain view, and
        ``.invalidate(**view_args)`` and ``.key(**view_args)``.

    Raises:
        ConfigError: an option is not usable, or what is decorated is none of these.
    """
    if not isinstance(cache_type, CacheType | str):
        raise ConfigError(
            f"@cache_response takes a CacheType or its name first, not {type(cache_type).__name__}: "
            "write @cache_response() or @cache_response(CacheType.DASHBOARD)"
        )
    lifetime = None if ttl is None else check_lifetime(ttl)
    observes, plain = (False, ()) if callable(tags) else split_tags(tags)
    known_tags = tuple(map(user_tag, plain))
    fields = _checked_vary(vary)
    for name, function, of in (
        ("key_func", key_func, "the request"),
        ("unless", unless, "the request"),
        ("keep", keep, "the response"),
    ):
        if function is not None and (not callable(function) or inspect.iscoroutinefunction(function)):
            raise ConfigError(f"{name} must be a function of {of}, and not async, not {function!r:.80}")

    maker = object()

    def options_for(view: Callable[..., Any]) -> Options:
        _check_view(view)
        identity = Identity(view)
        return Options(
            identity=identity,
            is_opaque=_is_opaque(identity),
            cache_type=cache_type,
            ttl=lifetime,
            key_func=key_func,
            composes=bool(getattr(key_func, "composes", False)),
            shares_anonymous=bool(getattr(key_func, "shares_anonymous", False)),
            tags=known_tags,
            observes=observes,
            find_tags=tags if callable(tags) else None,
            vary=fields,
            shared=shared,
            unless=unless,
            unless_takes_arguments=unless is not None and _takes_more_than_one(unless),
            keep=keep,
            signature=_signature(view, identity.name),
            is_method=is_method(view),
            maker=maker,
        )

    known: WeakKeyDictionary[Callable[..., Any], Options] = WeakKeyDictionary()

    def decorate(view: Callable[..., Any]) -> Any:
        options = _options_of_method(view, known) or options_for(view)
        wrapper: Any = _async_wrapper(view, options) if inspect.iscoroutinefunction(view) else _wrapper(view, options)
        functools.update_wrapper(wrapper, view)
        wrapper.uncached = view
        wrapper.invalidate = lambda *args, **kwargs: calls.invalidate(options, args, kwargs)
        wrapper.key = lambda *args, **kwargs: calls.key(options, args, kwargs)
        wrapper.rcache_options = options
        note_wrapper(wrapper)
        note_decorated(view, options)
        if isinstance(view, MethodType):
            known[view.__func__] = options
        return wrapper

    decorate.rcache_maker = maker  # type: ignore[attr-defined]
    return cast(_Decorate, decorate)


def _options_of_method(view: object, known: Mapping[Callable[..., Any], Options]) -> Options | None:
    """Those of a method that a class-based view decorates anew in each request, where the object says nothing."""
    if not isinstance(view, MethodType):
        return None
    options = known.get(view.__func__)
    return options if options is not None and (options.is_opaque or not attributes(view.__self__)) else None


def _checked_vary(vary: Vary) -> dict[str, Callable[[Request], object] | None]:
    """The fields that select the answer, in their normal form, with their functions.

    Raises:
        ConfigError: one is no field, or no function.
    """
    given = vary if isinstance(vary, Mapping) else dict.fromkeys(check_tags(vary, what="vary"))
    found: dict[str, Callable[[Request], object] | None] = {}
    for name, function in given.items():
        if not isinstance(name, str) or not _VARY.fullmatch(name) or name == "*":
            raise ConfigError(
                f'vary names header fields, cookies ("cookie:lang") and arguments ("arg:page"), not {name!r:.80}'
            )
        if function is not None and (not callable(function) or inspect.iscoroutinefunction(function)):
            raise ConfigError(f"vary[{name!r}] must be a function of the request, and not async, not {function!r:.80}")
        found[name if ":" in name else name.lower()] = function
    return dict(sorted(found.items()))


def _check_view(view: object) -> None:
    """Refuse what cannot be a view, and say where the decorator belongs.

    Raises:
        ConfigError: it can't be.
    """
    for kind, written in _WRAPPED:
        if isinstance(view, kind):
            raise ConfigError(
                f"@cache_response stands above {written}, which makes something else of the function: "
                f"put it below, directly above the def"
            )
    name = getattr(view, "__qualname__", repr(view))
    if isinstance(view, type):
        raise ConfigError(
            f"@cache_response stands above the class {name}: put it above its method, or write "
            "decorators = [cache_response(...)] in it"
        )
    if not callable(view):
        raise ConfigError(f"@cache_response decorates a view function, not {type(view).__name__} {view!r:.80}")
    if inspect.isgeneratorfunction(view) or inspect.isasyncgenfunction(view):
        raise ConfigError(
            f"{name} is a generator: its response is streamed, and never stored. Have @cache_response decorate a "
            "function that returns the whole, or leave it off"
        )
    if inspect.iscoroutinefunction(view) and importlib.util.find_spec("asgiref") is None:
        raise ConfigError(
            f"{name} is a coroutine function, which Flask runs only with its async extra: pip install 'flask[async]'"
        )


def _is_opaque(identity: Identity) -> bool:
    """Whether it is bound to an object that cannot stand in a key."""
    try:
        identity()
    except InvalidKeyError:
        return True
    return False


def _signature(view: Callable[..., Any], name: str) -> inspect.Signature:
    try:
        return inspect.signature(view)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"@cache_response needs a function whose arguments can be read, not {name}") from error


def _wrapper(view: Callable[..., Any], options: Options) -> Callable[..., Any]:
    def cached(*args: Any, **kwargs: Any) -> Any:
        ctx = request_context()
        if ctx is None:
            return bypassed(current_app, view(*args, **kwargs), Reason.CONTEXT, options)
        views = ctx.app.extensions.get(EXTENSION) or AppViews.of(ctx.app)
        if views.observer.tracer is not None:
            observe(ctx.request, session_of(ctx))
            with views.observer.span(views.view(options).policy.name):
                return answered(look_up(views, ctx, options, args, kwargs), args, kwargs, ctx)
        try:
            found = look_up(views, ctx, options, args, kwargs)
        except BaseException:
            observe(ctx.request, session_of(ctx))  # an error handler may call a decorated view
            raise
        return found if isinstance(found, Response) else answered(found, args, kwargs, ctx)

    def answered(found: Found, args: tuple[Any, ...], kwargs: dict[str, Any], ctx: Any) -> Any:
        """What follows the lookup."""
        if isinstance(found, Response):
            return found
        if isinstance(found, Returned):
            return found.value
        if isinstance(found, Reason):
            with claimed(raw_environ(ctx.request), options) as conversion, Stating(raw_environ(ctx.request)) as stating:
                returned = view(*args, **kwargs)
            return bypassed(current_app, returned, found, options, conversion, stating.lines)
        admitted = found.admit()
        if admitted is not None:
            return admitted.value if isinstance(admitted, Returned) else admitted
        try:
            with found:
                returned = view(*args, **kwargs)
        except Exception as error:
            stale = found.failed(error)
            if stale is None:
                raise
            return stale.value if isinstance(stale, Returned) else stale
        return conclude(found, returned)

    return cached


#: The code of the functions that it makes, by which they are known from what other decorators copy of them.
LOOKS_UP: Final = next(
    each for each in _wrapper.__code__.co_consts if isinstance(each, CodeType) and each.co_name == "cached"
)


def _async_wrapper(view: Callable[..., Any], options: Options) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def cached(*args: Any, **kwargs: Any) -> Any:
        ctx = request_context()
        if ctx is None:
            return bypassed(current_app, await view(*args, **kwargs), Reason.CONTEXT, options)
        views = AppViews.of(ctx.app)
        with views.observer.span(views.view(options).policy.name):
            found = look_up(views, ctx, options, args, kwargs)
            if isinstance(found, Response):
                return found
            if isinstance(found, Returned):
                return found.value
            if isinstance(found, Reason):
                with (
                    claimed(raw_environ(ctx.request), options) as conversion,
                    Stating(raw_environ(ctx.request)) as stating,
                ):
                    returned = await view(*args, **kwargs)
                return bypassed(current_app, returned, found, options, conversion, stating.lines)
            admitted = await found.admit_async()
            if admitted is not None:
                return admitted.value if isinstance(admitted, Returned) else admitted
            try:
                with found:
                    returned = await view(*args, **kwargs)
            except Exception as error:
                stale = found.failed(error)
                if stale is None:
                    raise
                return stale.value if isinstance(stale, Returned) else stale
            return conclude(found, returned)

    return cached


def _takes_more_than_one(function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin has no signature to read
        return False
    return len(parameters) > 1 or any(each.kind is each.VAR_KEYWORD for each in parameters)
