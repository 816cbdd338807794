"""What stands between Flask and a decorated view: other decorators, and the dispatch of class-based views.

Owns finding it (:func:`layers_of`), the function that takes its place in ``app.view_functions`` (:func:`install`), and
:class:`Conversion`, one request's way through it. A layer may make something else of what the view returns: a response
schema, a representation, JSON. So a view below one returns what it would return without a cache, on a miss and on a
hit, and its response is what Flask gets from the outermost layer. Where the layers leave the view's result as it is,
the response is stored; where they convert it, the result itself is, and is converted anew on each hit.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from functools import partial, update_wrapper
from types import FunctionType, MethodType, TracebackType
from typing import Any, Final, Protocol
from weakref import WeakSet

import flask.views
from flask import Flask, Response, current_app
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as WerkzeugResponse

from ..context import request_context
from ..observed import raw_environ

__all__ = [
    "CONVERSION",
    "Conversion",
    "Handed",
    "HandedHit",
    "HandedResponse",
    "Layers",
    "Mode",
    "Returned",
    "claimed",
    "install",
    "is_response",
    "is_wrapper",
    "layers_of",
    "note_wrapper",
    "reachable",
]

#: ``Observer.warn_once``.
WarnOnce = Callable[..., None]

#: Where an environ has the :class:`Conversion` of its request.
CONVERSION: Final = "flask_rcache.conversion"
_MOST_STEPS: Final = 200
#: The methods of a class-based view whose answers are looked up.
_METHODS: Final = ("get", "head", "dispatch_request")

#: The functions that ``cache_response`` has made.
_wrappers: Final[WeakSet[Any]] = WeakSet()
#: Those that :func:`install` has made.
_outermost: Final[WeakSet[Any]] = WeakSet()
_installing: Final = threading.Lock()


class Returned:
    """What a view returned when it was stored, to be handed to the layers above it."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value: Final = value


class Mode(Enum):
    """What is stored below the layers of an endpoint."""

    RESPONSES = 1
    """The response where the layers pass the view's result on as it is, else the result."""
    VALUES = 2
    """Results only: a layer can't take a response."""
    NOTHING = 3
    """A layer can't take a stored result either, because it needs what only a run of the view does."""


class Layers:
    """What stands above the decorated views of one endpoint.

    Args:
        endpoint: the endpoint.
        options: of the decorated views below.
        makers: the decorators that a class-based view applies anew in each request.

    Attributes:
        mode: what is stored.
        passes: whether they passed the last result on as it is.
        transforms: whether they make another response even of a response.
    """

    __slots__ = ("_makers", "_options", "endpoint", "mode", "passes", "transforms")

    def __init__(self, endpoint: str, options: frozenset[Any], makers: frozenset[Any]) -> None:
        self.endpoint: Final = endpoint
        self._options: Final = options
        self._makers: Final = makers
        self.mode = Mode.RESPONSES
        self.passes = False
        self.transforms = False

    def has(self, options: Any) -> bool:
        """Whether they stand above the view with these options."""
        return options in self._options or options.maker in self._makers


class Handed(Protocol):
    """What a decorated view has handed to the layers above it."""

    is_hit: bool

    def settle(self, returned: Any, layers: Layers) -> Any:
        """What Flask gets, given what the outermost layer has returned."""
        ...

    def abandon(self) -> None:
        """The layers failed."""
        ...


class HandedHit:
    """The response of a hit."""

    is_hit = True
    __slots__ = ("_response",)

    def __init__(self, response: Response) -> None:
        self._response: Final = response

    def settle(self, returned: Any, layers: Layers) -> Any:
        """The same.

        Raises:
            _NotPassedOn: a layer has made something else of it.
        """
        if layers.transforms or _contains(returned, self._response):
            return returned
        raise _NotPassedOn

    def abandon(self) -> None:
        """Nothing to do."""


class HandedResponse:
    """The response that a view has returned itself."""

    is_hit = False
    __slots__ = ("_response",)

    def __init__(self, response: Response) -> None:
        self._response: Final = response

    def settle(self, returned: Any, layers: Layers) -> Any:
        """What the layers have made of it: where that is another response, they will make one of a hit's too."""
        layers.transforms = layers.transforms or not _contains(returned, self._response)
        return returned

    def abandon(self) -> None:
        """Nothing to do: what was sent instead shows that it failed."""


def _contains(returned: object, response: Response) -> bool:
    return returned is response or (type(returned) is tuple and bool(returned) and returned[0] is response)


class _NotPassedOn(Exception):
    """A layer made something else of a response."""


class Conversion:
    """One request's way through the layers of its endpoint.

    Args:
        layers: of the endpoint.
        is_off: whether nothing is looked up this time.

    Attributes:
        handed: what the decorated view has handed up; ``None`` when it was not called.
    """

    __slots__ = ("_is_inside", "handed", "is_off", "layers", "returned_response")

    def __init__(self, layers: Layers, *, is_off: bool = False) -> None:
        self.layers: Final = layers
        self.is_off: Final = is_off or layers.mode is Mode.NOTHING
        self.handed: Handed | None = None
        self.returned_response = False
        self._is_inside = False

    def of(self, options: Any) -> Conversion | None:
        """Itself, when a call of the view with these options comes from the layers, and not from inside the view."""
        return self if not self._is_inside and self.layers.has(options) else None

    def __enter__(self) -> Conversion:
        self._is_inside = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_inside = False

    @property
    def takes_responses(self) -> bool:
        """Whether the response of a hit may be handed up."""
        return self.layers.mode is Mode.RESPONSES

    def hand(self, handed: Handed) -> None:
        """Note what is handed up; what was handed before, by a layer that calls twice, is dropped."""
        self.abandon()
        self.handed = handed

    def hand_response(self, response: Response) -> Response:
        """Hand up the response of a hit."""
        self.hand(HandedHit(response))
        return response

    def abandon(self) -> None:
        """The layers failed, or call the view again."""
        if self.handed is not None:
            self.handed.abandon()
            self.handed = None


def claimed(environ: Mapping[str, Any], options: Any) -> contextlib.AbstractContextManager[Conversion | None]:
    """The conversion that a call belongs to, as long as the view runs; ``None`` for a call that Flask makes itself."""
    conversion: Conversion | None = environ.get(CONVERSION)
    mine = None if conversion is None else conversion.of(options)
    return contextlib.nullcontext() if mine is None else mine


def is_response(returned: object) -> bool:
    """Whether a view returned a response, with or without a status and headers beside it: no layer converts that."""
    if type(returned) is tuple and returned:
        returned = returned[0]
    return isinstance(returned, WerkzeugResponse)


# Finding the layers


def note_wrapper(wrapper: Callable[..., Any]) -> None:
    """Note what ``cache_response`` has made of a view: what other decorators copy to theirs is no such thing."""
    _wrappers.add(wrapper)


def is_wrapper(function: object) -> bool:
    """Whether ``cache_response`` has made it."""
    try:
        return function in _wrappers
    except TypeError:  # not hashable, or without weak references
        return False


def reachable(view: Any) -> Iterator[Any]:
    """The decorated views below a view function, and the decorators that its class applies in each request.

    A layer is followed by its ``__wrapped__``, a partial and a method by their function, an object by its attributes,
    and a function that passes on any keyword arguments by the functions it has closed over.
    """
    waiting, seen = [view], set[int]()
    while waiting and len(seen) < _MOST_STEPS:
        function = waiting.pop()
        if id(function) in seen:
            continue
        seen.add(id(function))
        if is_wrapper(function) or getattr(function, "rcache_maker", None) is not None:
            yield function
        else:
            waiting += _below(function)


def _below(function: Any) -> Iterator[Any]:
    own = getattr(function, "__dict__", {})
    view_class = own.get("view_class")
    if isinstance(view_class, type):
        yield from _of_class(view_class)
    if "__wrapped__" in own:
        yield own["__wrapped__"]
    elif isinstance(function, partial):
        yield function.func
    elif isinstance(function, MethodType | staticmethod | classmethod):
        yield function.__func__
    elif isinstance(function, FunctionType):
        if view_class is None and not function.__code__.co_flags & inspect.CO_VARKEYWORDS:
            return
        for cell in function.__closure__ or ():
            with contextlib.suppress(ValueError):  # not assigned yet
                if callable(cell.cell_contents) and not isinstance(cell.cell_contents, type | Flask):
                    yield cell.cell_contents
    elif callable(function) and not isinstance(function, type | Flask):
        yield from (each for each in own.values() if callable(each) and not isinstance(each, type | Flask))


def _of_class(view_class: type) -> Iterator[Any]:
    yield from filter(None, (getattr(view_class, name, None) for name in _METHODS))
    for kind in view_class.__mro__:
        for held in vars(kind).values():
            groups = held.values() if isinstance(held, Mapping) else (held,)
            for group in groups:
                if isinstance(group, list | tuple):
                    yield from (each for each in group if getattr(each, "rcache_maker", None) is not None)


def layers_of(endpoint: str, view: Any) -> Layers | None:
    """What stands above the decorated views of an endpoint; ``None`` where Flask calls them itself, or there are none.

    Args:
        endpoint: the endpoint.
        view: its view function.
    """
    if is_wrapper(view) or _is_plain_dispatch(view):
        return None
    found = list(reachable(view))
    makers = frozenset(each.rcache_maker for each in found if not is_wrapper(each))
    options = frozenset(each.rcache_options for each in found if is_wrapper(each))
    return Layers(endpoint, options, makers) if options or makers else None


def _is_plain_dispatch(view: Any) -> bool:
    """Whether it is Flask's own dispatch to the methods of a class, which leaves their results as they are."""
    view_class = getattr(view, "view_class", None)
    if view_class is None or getattr(view, "__globals__", {}).get("__name__") != flask.views.__name__:
        return False
    dispatch = view_class.dispatch_request
    if is_wrapper(dispatch):
        return True
    methods = [getattr(view_class, name, None) for name in _METHODS[:2]]
    return dispatch is flask.views.MethodView.dispatch_request and all(
        each is None or is_wrapper(each) or not list(reachable(each)) for each in methods
    )


# The way through them


def install(app: Flask, warn_once: WarnOnce) -> None:
    """Put a function of ours above the layers of each endpoint that has some; before the first request is answered."""
    with _installing:
        for endpoint, view in list(app.view_functions.items()):
            layers = None if view in _outermost else layers_of(endpoint, view)
            if layers is not None:
                app.view_functions[endpoint] = _outermost_of(view, layers, warn_once)


def _outermost_of(view: Callable[..., Any], layers: Layers, warn_once: WarnOnce) -> Callable[..., Any]:
    is_async = inspect.iscoroutinefunction(view)

    def outermost(*args: Any, **kwargs: Any) -> Any:
        call = current_app.ensure_sync(view) if is_async else view
        ctx = request_context()
        environ = {} if ctx is None else raw_environ(ctx.request)
        if ctx is None or ctx.request.endpoint != layers.endpoint or CONVERSION in environ:
            return call(*args, **kwargs)  # another view calls this one
        try:
            conversion = environ[CONVERSION] = Conversion(layers)
            try:
                return _answer(call, args, kwargs, conversion)
            except HTTPException:
                raise
            except Exception as error:
                if conversion.handed is None or not conversion.handed.is_hit:
                    raise
                again = environ[CONVERSION] = Conversion(layers, is_off=True)
                answer = _answer(call, args, kwargs, again)
                _learn(layers, again, error, warn_once)
                return answer
        finally:
            environ.pop(CONVERSION, None)

    update_wrapper(outermost, view)
    _outermost.add(outermost)
    return outermost


def _answer(call: Callable[..., Any], args: Any, kwargs: Any, conversion: Conversion) -> Any:
    """What Flask gets."""
    try:
        returned = call(*args, **kwargs)
        handed = conversion.handed
        return returned if handed is None else handed.settle(returned, conversion.layers)
    except BaseException:
        if conversion.handed is not None:
            conversion.handed.abandon()
        raise


def _learn(layers: Layers, again: Conversion, error: Exception, warn_once: WarnOnce) -> None:
    """The layers could not take what a hit has handed up, and then could take what the view returned."""
    if again.returned_response and isinstance(error, _NotPassedOn):
        layers.transforms = True
    elif layers.mode is Mode.RESPONSES and not again.returned_response:
        layers.mode = Mode.VALUES
    else:
        layers.mode = Mode.NOTHING
        warn_once(
            f"layers/{layers.endpoint}",
            "the answers of endpoint %r are not cached: a decorator above its @cache_response needs what the view "
            "does, and a hit does not run the view (%s: %s). Put @cache_response above that decorator",
            layers.endpoint,
            type(error).__name__,
            error,
        )
