"""What stands above a view, and what it comes to in one app.

Owns :class:`Options` (the decorator's arguments) and :class:`Binding` (those with an app's policy and settings), and
the two questions asked of every request: does it pass the cache by, and which entry does it ask for.
"""

from __future__ import annotations

import inspect
import logging
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from flask import Request, Response, current_app

from ..context import carries_session
from ..engine import tracing
from ..engine.manager import CacheManager
from ..engine.policies import Policy
from ..http import Reason, RequestFacts, StorePolicy, Target, credential_names, request_facts, request_verdict
from ..model.cache_type import FROM_HEADERS, CacheType, Ttl
from ..model.keys import Key, key_id
from .identity import default_id, filtered_query, target_of
from .reply import ready_class

if TYPE_CHECKING:
    from flask.ctx import RequestContext

__all__ = ["Binding", "Options", "conditions", "options_of", "serves"]

logger: Final = logging.getLogger("flask_rcache")

_KEYS_REMEMBERED: Final = 4096
_LONGEST_REMEMBERED: Final = 400
_BINDINGS_KEPT: Final = 4096

_warned_of_hosts: Final[WeakSet[CacheManager]] = WeakSet()


@dataclass(frozen=True, slots=True, eq=False)
class Options:
    """What stands above one view; see :func:`~flask_rcache.cache_response`."""

    function: str
    cache_type: CacheType | str
    ttl: Ttl | None
    key_func: Callable[[Request], Key | None] | None
    composes: bool
    members: tuple[str, ...] | None
    tags: Callable[..., Iterable[str]] | None
    vary: tuple[str, ...]
    shared: bool
    unless: Callable[..., bool] | None
    unless_takes_arguments: bool
    signature: inspect.Signature

    @property
    def is_method(self) -> bool:
        """Whether the first argument is the object the view belongs to."""
        owner = self.function.rpartition(":")[2].rpartition(".")[0]
        in_class = bool(owner) and not owner.endswith("<locals>")
        return in_class and next(iter(self.signature.parameters), "") in ("self", "cls")

    def arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The call's arguments by name, without ``self``."""
        try:
            bound = self.signature.bind(*args, **kwargs).arguments
        except TypeError:  # a decorator below adds some that are not in the call
            return dict(kwargs)
        variable = next((each.name for each in self.signature.parameters.values() if each.kind is each.VAR_KEYWORD), "")
        named = {name: value for name, value in bound.items() if name not in ("self", "cls", variable)}
        return {**named, **bound.get(variable, {})}


class Binding:
    """One decorated view in one app: its options with that app's policy and settings."""

    __slots__ = (
        "_ready",
        "ask",
        "cookies",
        "credentials",
        "credentials_ok",
        "early",
        "ids",
        "is_method",
        "options",
        "policy",
        "store_policy",
        "warned",
    )

    def __init__(self, options: Options, manager: CacheManager) -> None:
        self.options: Final = options
        self.policy: Final[Policy] = manager.policy(options.cache_type, options.ttl)
        cache_type, ttl = self.policy.type, self.policy.ttl
        names_caller = cache_type.per_user and options.key_func is not None
        self.credentials_ok: Final = options.shared or names_caller
        self.is_method: Final = options.is_method
        self.cookies: Final = manager.settings.credential_cookies
        self.credentials: Final = credential_names(manager.settings.credential_headers)
        self.ids: Final[dict[tuple[str | None, ...], str]] = {}
        self.warned = False
        self.early: Final = bool(cache_type.early)
        self._ready: Any = None
        members = (self.policy.member, *(options.members or ()))
        self.ask: Final[Callable[[], tuple[str, ...]]] = lambda: members
        self.store_policy: Final = StorePolicy(
            ttl=None if ttl is FROM_HEADERS else ttl,
            stale_while_revalidate=cache_type.stale_while_revalidate,
            stale_if_error=cache_type.stale_if_error,
            error_ttl=cache_type.error_ttl,
            extra_statuses=cache_type.statuses,
            shared=options.shared,
            per_user=names_caller,
            max_body=manager.settings.max_bytes,
        )

    def storing(self, cost: float) -> StorePolicy:
        """What the type says about storing a response whose view took ``cost`` seconds."""
        cache_type = self.policy.type
        if self.store_policy.ttl is None or not (cache_type.jitter or self.policy.adaptive):
            return self.store_policy
        return replace(self.store_policy, ttl=self.policy.lifetime(cost, random.random()))

    def ready(self, base: type[Response]) -> Any:
        """What answers a hit for an app with this response class."""
        if self._ready is None or self._ready.__base__ is not base:
            self._ready = ready_class(base)
        return self._ready

    @classmethod
    def of(cls, options: Options, manager: CacheManager) -> Binding:
        """The binding of a view in the app of ``manager``."""
        binding = manager.bindings.get(options)
        if binding is None:
            if len(manager.bindings) >= _BINDINGS_KEPT:  # a function that is decorated anew in every request
                manager.bindings.clear()
            binding = manager.bindings.setdefault(options, cls(options, manager))
        return binding  # type: ignore[no-any-return]

    def bypassed(self, reason: Reason) -> None:
        """Count a request that went past the cache; say once why a ``key_func`` did not help."""
        self.policy.count("bypasses")
        if tracing.wanted:
            tracing.note("bypass")
        if self.warned or self.options.key_func is None or reason not in (Reason.AUTHORIZATION, Reason.SESSION):
            return
        self.warned = True
        logger.warning(
            "[CACHE] requests with credentials bypass the cache at %s: its key_func is trusted to name the caller only "
            "on a type with per_user=True",
            self.options.function,
        )

    def bypass(
        self,
        manager: CacheManager,
        ctx: RequestContext,
        environ: Mapping[str, Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Reason | None:
        """Why a request passes the cache by, before anything is asked of a store; ``None`` when it does not."""
        if not manager.enabled:
            return Reason.DISABLED
        session = (
            not self.credentials_ok
            and ("HTTP_COOKIE" in environ or bool(getattr(ctx, "_session", None)))
            and carries_session(ctx, environ, self.cookies)
        )
        reason = request_verdict(environ, session, credentials_ok=self.credentials_ok, credentials=self.credentials)
        unless = self.options.unless
        if reason is None and unless is not None:
            more = self.options.arguments(args, kwargs) if self.options.unless_takes_arguments else {}
            if unless(ctx.request, **more):
                return Reason.UNLESS
        return reason

    def facts(self, ctx: RequestContext, environ: Mapping[str, Any]) -> RequestFacts:
        """What the judgement of a response needs to know of the request."""
        return request_facts(environ, carries_session(ctx, environ, self.cookies), credentials=self.credentials)

    def key(
        self,
        manager: CacheManager,
        ctx: RequestContext,
        environ: Mapping[str, Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> str | None:
        """The stored key that a request asks for; ``None`` when the ``key_func`` gives none."""
        options, request = self.options, ctx.request
        named: Key | None = None
        if options.key_func is not None:
            named = options.key_func(request)
            if named is None:
                return None
            if not options.composes:
                # Readable, or hashed here: a hash that a client sent must not reach the entry it stands for.
                return manager.names.stored(self.policy.name, named, hashed=False)
        get = environ.get
        host = get("HTTP_HOST")
        routed = self.routed(ctx, args, kwargs)
        plain = routed and named is None and host is not None
        raw = (host, environ["wsgi.url_scheme"], get("SCRIPT_NAME"), get("PATH_INFO"), get("QUERY_STRING"))
        if plain:
            stored = self.ids.get(raw)
            if stored is not None:
                return stored
        more: list[Key] = [] if named is None else [key_id(named)]
        if not routed:
            if any(isinstance(value, Exception) for value in args):  # an error handler's: no two are the same
                return None
            more.append((args[self.is_method :], kwargs))
        identifier = default_id(options.function, self.target(request), *more)
        if not request.trusted_hosts and manager not in _warned_of_hosts:
            _warn_of_hosts(manager)
        stored = manager.names.entry(self.policy.name, identifier)
        if plain and sum(map(len, filter(None, raw))) <= _LONGEST_REMEMBERED:
            if len(self.ids) >= _KEYS_REMEMBERED:
                self.ids.clear()
            self.ids[raw] = stored
        return stored

    def routed(self, ctx: RequestContext, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether the call has the arguments that the URL map gives, and so the URL says them all."""
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
        return not args[self.is_method :]

    def target(self, request: Request) -> Target:
        """The URL of a request as it stands in the key."""
        return self.keyed(target_of(request))

    def keyed(self, target: Target) -> Target:
        """A URL as it stands in the key: with the query as the type wants it."""
        return target._replace(query=filtered_query(target.query, self.policy.type.query))


def _warn_of_hosts(manager: CacheManager) -> None:
    """Say once in an app that a stranger's Host header makes entries; not while it is being developed or tested."""
    _warned_of_hosts.add(manager)
    if not (current_app.debug or current_app.testing):
        logger.warning(
            "[CACHE] the request's host is part of the key, and %r takes any host: set TRUSTED_HOSTS, or a stranger "
            "can fill the cache with pages for hosts of his own",
            current_app.name,
        )


def serves(ctx: RequestContext, options: Options) -> bool:
    """Whether the request is for this function, and not for another view that called it."""
    view = ctx.app.view_functions.get(ctx.request.endpoint or "")
    return any(found is options for found in options_of(view))


def conditions(ctx: RequestContext, options: Options) -> Mapping[str, Any]:
    """The environ whose conditions and range the answer is to obey; an empty one for another view that wants it whole.

    Source: RFC 9110 sections 13.1 and 14.2: they concern the target of the request.
    """
    environ: Mapping[str, Any] = ctx.request.environ
    if not ("HTTP_IF_NONE_MATCH" in environ or "HTTP_IF_MODIFIED_SINCE" in environ or "HTTP_RANGE" in environ):
        return environ
    return environ if serves(ctx, options) else {}


def options_of(view: Any) -> Iterator[Options]:
    """The options of a view function, of what it wraps, and of a class-based view's methods."""
    view_class = getattr(view, "view_class", None)
    candidates = [view]  # `decorators` of a class stand here
    if view_class is not None:
        candidates += [getattr(view_class, name, None) for name in ("get", "dispatch_request")]
    for function in candidates:
        seen = 0
        while function is not None and seen < 50:
            options = getattr(function, "rcache_options", None)
            if isinstance(options, Options):
                yield options
                break
            function, seen = getattr(function, "__wrapped__", None), seen + 1
