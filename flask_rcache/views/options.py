"""What stands above a view: the arguments of its decorator, and how decorated views are found.

Owns :class:`Options`; what they come to in one app is ``bound``'s.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

from flask import Flask, Request, Response

from ..errors import InvalidKeyError
from ..model.cache_type import CacheType, Lifetime, Tags, split_tags
from ..model.callable_keys import Identity
from ..model.keys import Key, key_id, user_tag
from .layers import is_wrapper, reachable

__all__ = ["Options", "misplaced", "note_decorated", "options_of"]

#: The plain functions that are decorated, to find those that are registered as they are.
_decorated: Final[WeakKeyDictionary[Callable[..., Any], Options]] = WeakKeyDictionary()


class Options:
    """What stands above one view; see :func:`~flask_rcache.cache_response`. Each decorator is another one.

    ``identity`` is what tells the view from others in keys; ``is_opaque`` says that it is bound to an object that can't
    stand in a key. ``composes`` says that the ``key_func`` adds to the default key, ``shares_anonymous`` that those
    whom it does not know share an entry. ``tags`` are those that are known beforehand, ``find_tags`` finds them.
    ``observes`` says that ``AUTO`` is among the former. ``vary`` are the fields that select the answer, with the
    functions that give their values. ``maker`` is the decorator, which a class may apply anew in each request.
    """

    __slots__ = (
        "cache_type",
        "composes",
        "find_tags",
        "identity",
        "is_method",
        "is_opaque",
        "keep",
        "key_func",
        "maker",
        "observes",
        "shared",
        "shares_anonymous",
        "signature",
        "tags",
        "ttl",
        "unless",
        "unless_takes_arguments",
        "vary",
    )

    def __init__(
        self,
        *,
        identity: Identity,
        is_opaque: bool,
        cache_type: CacheType | str,
        ttl: Lifetime | None,
        key_func: Callable[[Request], Key | None] | None,
        composes: bool,
        shares_anonymous: bool,
        tags: tuple[str, ...],
        find_tags: Callable[..., Tags] | None,
        observes: bool,
        vary: Mapping[str, Callable[[Request], object] | None],
        shared: bool,
        unless: Callable[..., object] | None,
        unless_takes_arguments: bool,
        keep: Callable[[Response], object] | None,
        signature: inspect.Signature,
        is_method: bool,
        maker: object,
    ) -> None:
        self.identity: Final = identity
        self.is_opaque: Final = is_opaque
        self.cache_type: Final = cache_type
        self.ttl: Final = ttl
        self.key_func: Final = key_func
        self.composes: Final = composes
        self.shares_anonymous: Final = shares_anonymous
        self.tags: Final = tags
        self.find_tags: Final = find_tags
        self.observes: Final = observes
        self.vary: Final = vary
        self.shared: Final = shared
        self.unless: Final = unless
        self.unless_takes_arguments: Final = unless_takes_arguments
        self.keep: Final = keep
        self.signature: Final = signature
        self.is_method: Final = is_method
        self.maker: Final = maker

    @property
    def function(self) -> str:
        """The name of the view, ``module:qualname``."""
        return self.identity.name

    def origin(self) -> tuple[str, bool]:
        """What tells the view from others: its name; with a hash of what it has closed over, as it is now.

        And whether that is all: what it is bound to, if anything, can stand in a key, as it is now.
        """
        try:
            more = () if self.is_opaque else self.identity()
        except InvalidKeyError:  # an object that was given its state since
            return self.identity.name, False
        return (self.identity.name + key_id(more) if more else self.identity.name), not self.is_opaque

    def arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The call's arguments by name, without ``self``."""
        try:
            bound = self.signature.bind(*args, **kwargs).arguments
        except TypeError:  # a decorator below adds some that are not in the call
            return dict(kwargs)
        variable = next((each.name for each in self.signature.parameters.values() if each.kind is each.VAR_KEYWORD), "")
        named = {name: value for name, value in bound.items() if name not in ("self", "cls", variable)}
        return {**named, **bound.get(variable, {})}

    def found_tags(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[bool, tuple[str, ...]]:
        """Whether the tags of a call are ``AUTO``, and its stamp tags beside its type's.

        Raises:
            Exception: whatever the decorator's own function raises.
        """
        if self.find_tags is None:
            return self.observes, self.tags
        observes, plain = split_tags(self.find_tags(**self.arguments(args, kwargs)))
        return observes, tuple(map(user_tag, plain))


def options_of(view: Any) -> Iterator[Options]:
    """The options of the decorated views that a view function leads to: below other decorators, or in its class."""
    for found in reachable(view):
        if is_wrapper(found):
            yield found.rcache_options


def note_decorated(view: Callable[..., Any], options: Options) -> None:
    """Note that a function is decorated, for :func:`misplaced`."""
    if inspect.isfunction(view):
        _decorated[view] = options


def misplaced(app: Flask) -> Iterator[tuple[str, str]]:
    """The endpoints whose view is decorated but registered without its decorator, which then stands above the route.

    Yields:
        Each endpoint with the name of its view.
    """
    views = app.view_functions
    registered = {options for view in views.values() for options in options_of(view)}
    for endpoint, view in views.items():
        options = _decorated.get(view) if inspect.isfunction(view) else None
        if options is not None and options not in registered:
            yield endpoint, options.function
