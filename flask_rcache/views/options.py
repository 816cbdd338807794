"""What stands above a view, and what it comes to in one app.

Owns :class:`Options` (the decorator's arguments), :class:`BoundView` (those with an app's policy and settings) and
:class:`AppViews` (all of one app, with what is remembered of them), and the two questions asked of every request: does
it bypass the cache, and which entry does it ask for.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

from flask import Flask, Request, Response

from ..context import carries_session, manager_of
from ..engine.manager import CacheManager
from ..engine.policies import Policy
from ..http import (
    Reason,
    RequestFacts,
    StorePolicy,
    Target,
    credential_names,
    names_to_judge,
    request_facts,
    request_verdict,
)
from ..model.bounded import BoundedDict
from ..model.cache_type import FROM_HEADERS, CacheType, Lifetime, Tags, split_tags
from ..model.callable_keys import Identity
from ..model.keys import Key, key_id, user_tag
from .identity import default_id, filtered_query, target_of
from .layers import CONVERSION, is_wrapper, reachable
from .reply import CONDITIONS
from .results import Results

__all__ = [
    "EXTENSION",
    "AppViews",
    "BoundView",
    "Options",
    "conditions",
    "misplaced",
    "note_decorated",
    "options_of",
]

#: Where an app has its :class:`AppViews`.
EXTENSION: Final = "rcache_views"
_KEYS_REMEMBERED: Final = 4096
_LONGEST_REMEMBERED: Final = 400
_ENDPOINTS_REMEMBERED: Final = 100
_VIEWS_KEPT: Final = 4096
_FIELDS_KEPT: Final = 10_000

#: The plain functions that are decorated, to find those that are registered as they are.
_decorated: Final[WeakKeyDictionary[Callable[..., Any], Options]] = WeakKeyDictionary()


class Options:
    """What stands above one view; see :func:`~flask_rcache.cache_response`. Each decorator is another one.

    ``identity`` is what tells the view from others in keys; ``is_opaque`` says that it is bound to an object that can't
    stand in a key. ``composes`` says that the ``key_func`` adds to the default key. ``tags`` are those that are known
    beforehand, ``find_tags`` finds them. ``observes`` says that ``AUTO`` is among the former. ``maker`` is the
    decorator, which a class may apply anew in each request.
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
        tags: tuple[str, ...],
        find_tags: Callable[..., Tags] | None,
        observes: bool,
        vary: tuple[str, ...],
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

    def origin(self) -> str:
        """What tells the view from others: its name; with a hash of what it has closed over, as it is now."""
        more = () if self.is_opaque else self.identity()
        return self.identity.name + key_id(more) if more else self.identity.name

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


class AppViews:
    """The decorated views of one app.

    Args:
        app: the app.
        manager: its manager.

    Attributes:
        bound: the views that were called, by what stands above them.
        fields: the request fields that select a variant, by the key of the URL, as this process saw them last.
        in_development: whether the app is being developed or tested.
        results: what views below converting decorators return, as bytes and back.
    """

    __slots__ = (
        "_warned_of_hosts",
        "allow_refresh",
        "bound",
        "engine",
        "fields",
        "in_development",
        "manager",
        "observer",
        "results",
        "show_key",
    )

    def __init__(self, app: Flask, manager: CacheManager) -> None:
        self.manager: Final = manager
        self.engine: Final = manager.engine
        self.observer: Final = manager.engine.observer
        self.allow_refresh: Final = manager.settings.allow_refresh
        self.show_key: Final = manager.settings.show_key
        self.in_development: Final[Callable[[], bool]] = lambda: app.debug or app.testing
        self.fields: Final[BoundedDict[str, tuple[str, ...]]] = BoundedDict(_FIELDS_KEPT)
        self.bound: Final[BoundedDict[Options, BoundView]] = BoundedDict(_VIEWS_KEPT)
        self.results: Final = Results(manager.engine.codec, max_bytes=manager.settings.max_bytes)
        self._warned_of_hosts = False

    @classmethod
    def of(cls, app: Flask) -> AppViews:
        """Those of an app.

        Raises:
            ConfigError: it has no cache.
        """
        found = app.extensions.get(EXTENSION)
        if found is None:
            found = app.extensions.setdefault(EXTENSION, cls(app, manager_of(app)))
        return found  # type: ignore[no-any-return]

    def view(self, options: Options) -> BoundView:
        """A view with the app's policy and settings."""
        found = self.bound.get(options)
        if found is None:  # one that is decorated anew in every request is forgotten again
            found = self.bound[options] = BoundView(options, self)
        return found

    def names_of(self, url_key: str, options: Options) -> tuple[str, ...]:
        """The request fields that select a variant of a URL, as far as this process knows."""
        return self.fields.get(url_key, options.vary)

    def remember(self, url_key: str, fields: tuple[str, ...]) -> None:
        """Remember which request fields select a variant of a URL."""
        if self.fields.get(url_key) != fields:
            self.fields[url_key] = fields

    def check_hosts(self, app: Flask, request: Request) -> None:
        """Warn once that a Host header makes entries; not while the app is being developed or tested."""
        if self._warned_of_hosts or request.trusted_hosts:
            return
        self._warned_of_hosts = True
        if not self.in_development():
            self.observer.warn_once(
                f"hosts/{app.name}",
                "the request's host is part of the key, and %r takes any host: set TRUSTED_HOSTS, or Host headers "
                "chosen by an attacker fill the cache",
                app.name,
            )


class BoundView:
    """One decorated view in one app.

    Args:
        options: what stands above it.
        views: all of the app's.

    Attributes:
        origin: what tells the view from others, in its keys and on its entries; with a hash of what it had closed over
            when it was first called.
        tags: what entries have for certain, the type's own tag included.
        is_judged: whether each request has to be judged: there is an ``unless``.
        to_judge: the names in an environ for which it has to be.
        is_explicit: whether the ``key_func`` gives the whole key, so that other views may have it too.
    """

    __slots__ = (
        "_credentials",
        "_credentials_cookies",
        "_endpoints",
        "_ids",
        "_store_policy",
        "_warned",
        "credentials_ok",
        "is_explicit",
        "is_judged",
        "options",
        "origin",
        "policy",
        "tags",
        "to_judge",
        "views",
    )

    def __init__(self, options: Options, views: AppViews) -> None:
        settings = views.engine.settings
        self.options: Final = options
        self.origin: Final = options.origin()
        self.views: Final = views
        self.policy: Final[Policy] = views.engine.policies.policy(options.cache_type, options.ttl)
        cache_type, ttl = self.policy.type, self.policy.ttl
        names_caller = cache_type.per_user and options.key_func is not None
        self.credentials_ok: Final = options.shared or names_caller
        self.is_explicit: Final = options.key_func is not None and not options.composes
        self.tags: Final = (self.policy.tag, *options.tags)
        self._credentials: Final = credential_names(settings.credential_headers)
        self._credentials_cookies: Final = settings.credential_cookies
        self.is_judged: Final = options.unless is not None
        self.to_judge: Final = names_to_judge(self._credentials, credentials_ok=self.credentials_ok)
        self._ids: Final[BoundedDict[tuple[str | None, ...], str]] = BoundedDict(_KEYS_REMEMBERED)
        self._endpoints: Final[BoundedDict[str, tuple[Any, bool]]] = BoundedDict(_ENDPOINTS_REMEMBERED)
        self._warned = False
        self._store_policy: Final = StorePolicy(
            ttl=None if ttl is FROM_HEADERS else ttl,
            stale_while_revalidate=cache_type.stale_while_revalidate,
            stale_if_error=cache_type.stale_if_error,
            error_ttl=cache_type.error_ttl,
            extra_statuses=cache_type.statuses,
            shared=options.shared,
            per_user=names_caller,
            max_body=settings.max_bytes,
        )

    def store_policy(self, cost: float = 0.0) -> StorePolicy:
        """What is said here about storing a response whose view took ``cost`` seconds."""
        if self._store_policy.ttl is None or not (self.policy.type.jitter or self.policy.adaptive_ttl):
            return self._store_policy
        return self._store_policy._replace(ttl=self.policy.lifetime(cost, random.random()))

    # Does it bypass the cache?

    def bypass(
        self, ctx: Any, environ: Mapping[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Reason | None:
        """Why a request bypasses the cache, before anything is asked of a store; ``None`` when it does not.

        A GET or HEAD without a session and without any of ``to_judge`` does not, unless :attr:`is_judged`.
        """
        if not self.views.engine.enabled:
            return Reason.DISABLED
        conversion = environ.get(CONVERSION)
        if conversion is not None and conversion.is_off and conversion.layers.has(self.options):
            return Reason.DECORATOR
        session = not self.credentials_ok and carries_session(ctx, environ, self._credentials_cookies)
        reason = request_verdict(environ, session, credentials_ok=self.credentials_ok, credentials=self._credentials)
        options = self.options
        if reason is None and options.unless is not None:
            more = options.arguments(args, kwargs) if options.unless_takes_arguments else {}
            if options.unless(ctx.request, **more):
                return Reason.UNLESS
        return reason

    def bypassed(self, reason: Reason) -> None:
        """Count a request that bypassed the cache; warn once where a ``key_func`` did not help."""
        observer = self.views.observer
        observer.bypassed(self.policy)
        if self._warned or self.options.key_func is None or reason not in (Reason.AUTHORIZATION, Reason.SESSION):
            return
        self._warned = True
        observer.warn_once(
            f"per_user/{self.options.function}",
            "requests with credentials bypass the cache at %s: its key_func is trusted to name the caller only on a "
            "type with per_user=True",
            self.options.function,
        )

    def facts(self, ctx: Any, environ: Mapping[str, Any]) -> RequestFacts:
        """What the judgement of a response needs to know of the request."""
        session = carries_session(ctx, environ, self._credentials_cookies)
        return request_facts(environ, session, credentials=self._credentials)

    def serves(self, ctx: Any) -> bool:
        """Whether the request is for this view, and not for another one that called it."""
        conversion = ctx.request.environ.get(CONVERSION)
        if conversion is not None and conversion.layers.has(self.options):
            return True
        endpoint = ctx.request.endpoint or ""
        view = ctx.app.view_functions.get(endpoint)
        known, answer = self._endpoints.get(endpoint, (None, False))
        if known is not view or view is None:
            answer = any(found is self.options for found in options_of(view))
            self._endpoints[endpoint] = view, answer
        return answer

    # Which entry does it ask for?

    def key(self, ctx: Any, environ: Mapping[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
        """The stored key of the URL that a request asks for; ``None`` when the ``key_func`` gives none."""
        options, request = self.options, ctx.request
        names = self.views.engine.names
        named: Key | None = None
        if options.key_func is not None:
            named = options.key_func(request)
            if named is None:
                return None
            if not options.composes:
                # Readable, or hashed here: a hash that a client sent must not reach the entry it stands for.
                return names.stored(self.policy.name, named, hashed=False)
        get = environ.get
        host = get("HTTP_HOST")
        routed = not (args or kwargs or request.view_args) or self.is_routed(ctx, args, kwargs)
        if options.is_opaque and not (routed and self.serves(ctx)):
            options.identity()  # raises: it is not the URL that tells such views apart
        plain = routed and named is None and host is not None
        raw = (host, environ["wsgi.url_scheme"], get("SCRIPT_NAME"), get("PATH_INFO"), get("QUERY_STRING"))
        if plain:
            stored = self._ids.get(raw)
            if stored is not None:
                return stored
        more: list[Key] = [] if named is None else [key_id(named)]
        if not routed:
            if any(isinstance(value, Exception) for value in args):  # an error handler's: no two are the same
                return None
            more.append((args[options.is_method :], kwargs))
        stored = names.entry(self.policy.name, default_id(self.origin, self.target(request), *more))
        self.views.check_hosts(ctx.app, request)
        if plain and sum(map(len, filter(None, raw))) <= _LONGEST_REMEMBERED:
            self._ids[raw] = stored
        return stored

    def is_routed(self, ctx: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether the call has the arguments that the URL map gives, so that the URL has them all."""
        request = ctx.request
        if kwargs:
            rule = request.url_rule
            # A preprocessor, or what runs before the view, may have put something else there.
            if kwargs != request.view_args or ctx.app.url_value_preprocessors:
                return False
            if rule is not None and not kwargs.keys() <= rule.arguments:
                return False
        elif request.view_args:
            return False
        return not args[self.options.is_method :]

    def key_of(self, target: Target) -> str:
        """The stored key of a URL, as :meth:`keyed` gives it, whose view is called with what the URL map gives."""
        return self.views.engine.names.entry(self.policy.name, default_id(self.origin, target))

    def target(self, request: Request) -> Target:
        """The URL of a request as it stands in the key."""
        return self.keyed(target_of(request))

    def keyed(self, target: Target) -> Target:
        """A URL as it stands in the key: with the query as the type wants it."""
        return target._replace(query=filtered_query(target.query, self.policy.type.query))


# Finding decorated views


def options_of(view: Any) -> Iterator[Options]:
    """The options of the decorated views that a view function leads to: below other decorators, or in its class."""
    for found in reachable(view):
        if is_wrapper(found):
            yield found.rcache_options


def conditions(ctx: Any, view: BoundView) -> Mapping[str, Any]:
    """The environ whose conditions and range the answer is to obey; an empty one for another view that wants it whole.

    Source: RFC 9110 sections 13.1 and 14.2: they concern the target of the request.
    """
    environ: Mapping[str, Any] = ctx.request.environ
    return environ if environ.keys().isdisjoint(CONDITIONS) or view.serves(ctx) else {}


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
