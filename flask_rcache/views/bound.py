"""What stands above a view, as it is in one app: bound to the app's policies and settings.

Owns :class:`BoundView` (a decorator's arguments with an app's policy and settings) and :class:`AppViews` (all of one
app, with what is remembered of them), and the two questions asked of every request: does it bypass the cache, and which
entry does it ask for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from flask import Flask, Request

from ..context import carries_credential_cookie, manager_of
from ..engine.manager import CacheManager
from ..engine.policies import Policy
from ..errors import InvalidKeyError
from ..http import (
    ADDRESS,
    QUIET_SESSION,
    TARGET,
    FieldRules,
    HeaderLines,
    Reason,
    RequestFacts,
    Selection,
    StorePolicy,
    Target,
    credential_names,
    is_for_everyone,
    names_to_judge,
    request_facts,
    request_verdict,
    session_identifies,
    session_value,
    shown_field,
    united,
)
from ..model import chance
from ..model.bounded import BoundedDict
from ..model.cache_type import FROM_HEADERS
from ..model.keys import Key, key_id
from ..observed import observe, opened_session, raw_environ, session_of, view_args_of
from .dependencies import Counting, secrets_of
from .identity import default_id, filtered_query, leave_session_protection_alone, target_of
from .layers import CONVERSION
from .options import Options, options_of
from .reply import CONDITIONS
from .results import Results

__all__ = [
    "EXTENSION",
    "AppViews",
    "BoundView",
    "conditions",
    "has_flashes",
    "is_session_changed",
    "remedy_for",
]

#: Where an app has its :class:`AppViews`.
EXTENSION: Final = "rcache_views"
_KEYS_REMEMBERED: Final = 4096
_LONGEST_REMEMBERED: Final = 400
_ENDPOINTS_REMEMBERED: Final = 100
_SELECTIONS_REMEMBERED: Final = 1000
_USES_COUNTED: Final = 50_000
_VIEWS_KEPT: Final = 4096
_FIELDS_KEPT: Final = 10_000
#: Where flask-login and flask-jwt-extended are configured with the names of their cookies.
_COOKIE_SETTINGS: Final = ("REMEMBER_COOKIE_NAME", "JWT_ACCESS_COOKIE_NAME")


class AppViews:
    """The decorated views of one app.

    Args:
        app: the app.
        manager: its manager.

    Attributes:
        bound: the views that were called, by what stands above them.
        fields: what selects the answer, by the key of the URL, as far as this process has seen it; they only grow.
        rules: which header fields negotiate, and which are ignored.
        uses: how often variants were asked for here.
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
        "rules",
        "secrets",
        "uses",
    )

    def __init__(self, app: Flask, manager: CacheManager) -> None:
        self.manager: Final = manager
        self.engine: Final = manager.engine
        self.observer: Final = manager.engine.observer
        self.allow_refresh: Final = manager.settings.allow_refresh
        self.rules: Final = FieldRules(manager.settings.negotiated, manager.settings.ignored_fields)
        self.secrets: Final = secrets_of(manager.settings)
        self.in_development: Final[Callable[[], bool]] = lambda: app.debug or app.testing
        self.fields: Final[BoundedDict[str, Selection]] = BoundedDict(_FIELDS_KEPT)
        self.uses: Final[BoundedDict[str, int]] = BoundedDict(_USES_COUNTED)
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
            leave_session_protection_alone(app)
        return found  # type: ignore[no-any-return]

    def view(self, options: Options) -> BoundView:
        """A view with the app's policy and settings."""
        found = self.bound.get(options)
        if found is None:  # one that is decorated anew in every request is forgotten again
            found = self.bound[options] = BoundView(options, self)
        return found

    def selection_of(self, url_key: str, view: BoundView) -> Selection:
        """What selects the answer of a URL, as far as this process knows."""
        return self.fields.get(url_key) or view.always

    def remember(self, url_key: str, view: BoundView, selection: Selection) -> None:
        """Remember what selects the answer of a URL."""
        if self.selection_of(url_key, view).fields != selection.fields:
            self.fields[url_key] = selection

    def forget_variants(self, dropped: Iterable[str], kept: Iterable[str]) -> None:
        """Some variants of a URL were dropped: what the others were used long ago counts less from now on."""
        for key in dropped:
            self.uses.pop(key, None)
        for key in kept:
            if key in self.uses:
                self.uses[key] //= 2

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
        is_judged: whether each request has to be judged: there is an ``unless``, or callers are told from visitors.
        reads_itself: whether functions of the decorator read the request; they are no part of the view.
        always: what selects the answer in any case.
        show_key: whether responses show their key.
        to_judge: the names in an environ for which it has to be.
        names_caller: whether the answers are for one caller each.
        changes_bodies: whether ``after_request`` functions make other bodies of its responses; ``None``: not known yet.
        is_explicit: whether the ``key_func`` gives the whole key, so that other views may have it too.
        has_plain_origin: whether the origin is the view's name, without a hash of what it has closed over.
        has_front: whether the front may answer in place of the view: no function of the decorator, which is to be
            called for each request, stands in the way.
    """

    __slots__ = (
        "_credentials",
        "_credentials_cookies",
        "_endpoints",
        "_ids",
        "_is_told_apart",
        "_of_release",
        "_only_callers",
        "_permits_authorization",
        "_selections",
        "_store_policy",
        "_warned",
        "always",
        "changes_bodies",
        "credentials_ok",
        "has_front",
        "has_plain_origin",
        "is_explicit",
        "is_judged",
        "names_caller",
        "options",
        "origin",
        "policy",
        "reads_itself",
        "show_key",
        "tags",
        "to_judge",
        "views",
    )

    def __init__(self, options: Options, views: AppViews) -> None:
        settings = views.engine.settings
        self.options: Final = options
        origin, is_told_apart = options.origin()
        self.origin: Final = origin
        self.has_plain_origin: Final = origin == options.function
        self._is_told_apart: Final = is_told_apart
        self._of_release: Final = f"{self.origin} of {settings.release}" if settings.release else self.origin
        self.views: Final = views
        self.policy: Final[Policy] = views.engine.policies.policy(options.cache_type, options.ttl)
        cache_type, ttl = self.policy.type, self.policy.ttl
        names_caller = cache_type.per_user and options.key_func is not None
        self.names_caller: Final = names_caller
        self.changes_bodies: bool | None = None
        self.credentials_ok: Final = options.shared or names_caller
        self.is_explicit: Final = options.key_func is not None and not options.composes
        self.tags: Final = (self.policy.tag, *options.tags)
        self._credentials: Final = credential_names(settings.credential_headers)
        self._credentials_cookies: Final = settings.credential_cookies
        self.is_judged: Final = options.unless is not None
        self.reads_itself: Final = bool(options.key_func or options.unless or any(options.vary.values()))
        wants_front = settings.front if cache_type.front is None else cache_type.front
        self.has_front: Final = wants_front and not (self.reads_itself or cache_type.per_user)
        show_key = settings.show_key
        self.show_key: Final = not cache_type.per_user if show_key is None else show_key
        self.to_judge: Final = names_to_judge(self._credentials, credentials_ok=self.credentials_ok)
        self._ids: Final[BoundedDict[tuple[str | None, ...], str]] = BoundedDict(_KEYS_REMEMBERED)
        self._endpoints: Final[BoundedDict[str, tuple[Any, bool]]] = BoundedDict(_ENDPOINTS_REMEMBERED)
        self._selections: Final[BoundedDict[tuple[str, ...], Selection]] = BoundedDict(_SELECTIONS_REMEMBERED)
        self.always: Final = self.selection(united(options.vary))
        self._warned = False
        # Whether its responses permit that requests with Authorization have them; unknown until one came. And the URLs
        # whose last response to such a request did not.
        self._permits_authorization: bool | None = None
        self._only_callers: BoundedDict[str, None] = BoundedDict(_KEYS_REMEMBERED)
        self._store_policy: Final = StorePolicy(
            ttl=None if ttl is FROM_HEADERS else ttl,
            stale_while_revalidate=cache_type.stale_while_revalidate,
            stale_if_error=cache_type.stale_if_error,
            revalidate=cache_type.revalidate,
            revalidate_each_time=settings.ttl_default if ttl is FROM_HEADERS else ttl,
            error_ttl=cache_type.error_ttl,
            extra_statuses=cache_type.statuses,
            shared=options.shared,
            per_user=names_caller,
            max_body=settings.max_bytes,
            targeted=settings.targeted_fields,
        )

    def store_policy(self, cost: float = 0.0, *, trusted: bool = True) -> StorePolicy:
        """What is said here about storing a response.

        Args:
            cost: seconds that the view took.
            trusted: whether the key names the caller, where it may.
        """
        policy = self._store_policy
        if not trusted and policy.per_user:
            policy = policy._replace(per_user=False)
        if policy.ttl is None or not (self.policy.type.jitter or self.policy.adaptive_ttl):
            return policy
        return policy._replace(ttl=self.policy.lifetime(cost, chance.draw()))

    def selection(self, fields: tuple[str, ...]) -> Selection:
        """What selects the answer, where answers depend on these fields, as they are kept."""
        found = self._selections.get(fields)
        if found is None:
            functions = {name: function for name, function in self.options.vary.items() if function is not None}
            found = self._selections[fields] = Selection(fields, functions, self.policy.type.query)
        return found

    def kept(self, fields: tuple[str, ...], *, trusted: bool) -> tuple[str, ...]:
        """Fields that were read, as they are kept with the answer: those that identify are to be absent.

        Args:
            fields: the fields.
            trusted: whether the key names the caller, or the answer is for everyone: what identifies does not count.
        """
        if not fields:
            return ()
        selecting = {field for field in fields if field in self.options.vary or self.views.rules.negotiates(field)}
        return united(selecting, () if trusted else [f"!{field}" for field in fields if field not in selecting])

    def counting(self, *, trusted: bool) -> Counting:
        """Which reads count for a request."""
        query = None if self.is_explicit else self.policy.type.query
        visits = self.options.shares_anonymous and not trusted
        return Counting(self.views.rules, query, visits, self.views.secrets if self.options.shared else frozenset())

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
        trusted = self.credentials_ok
        has_session = not trusted and self.has_session(ctx, environ)
        reason = request_verdict(environ, has_session, credentials_ok=trusted, credentials=self._credentials)
        options = self.options
        if reason is None and has_flashes(ctx):
            return Reason.FLASHES
        session = session_of(ctx) if reason is Reason.SESSION else None
        if session is not None and is_session_changed(session, observe(ctx.request, session).session):
            self.mention(
                "session",
                "answers are not stored where what runs before the view changes the session, which identifies its "
                "visitor then: make a CSRF token where it is used, and keep in the session what is of a user",
            )
        if reason is None and options.unless is not None:
            more = options.arguments(args, kwargs) if options.unless_takes_arguments else {}
            if options.unless(ctx.request, **more):
                return Reason.UNLESS
        return reason

    def may_permit_authorization(self, url_key: str = "") -> bool:
        """Whether requests with Authorization are looked up: where responses never permit it, that would be in vain.

        Args:
            url_key: the key of the URL; without it the question is about all of the view's.
        """
        return (
            self.options.key_func is None
            and self._permits_authorization is not False
            and url_key not in self._only_callers
        )

    def permits_authorization(self, headers: HeaderLines) -> bool:
        """Whether a response says that requests with Authorization may have it, whoever sends them."""
        return is_for_everyone(headers, self._store_policy.targeted)

    def note_permission(self, headers: HeaderLines, url_key: str = "") -> bool:
        """Learn from what the view has answered to a request with Authorization, and say what it permits."""
        permits = self.permits_authorization(headers)
        if permits and (not url_key or self._permits_authorization is False):
            self._only_callers = BoundedDict(_KEYS_REMEMBERED)
        if permits:
            self._permits_authorization = True
        else:
            self._permits_authorization = self._permits_authorization or False
            if url_key:
                self._only_callers[url_key] = None
        return permits

    def called_by(self, ctx: Any, environ: Mapping[str, Any]) -> tuple[Reason | None, bool, Key | None]:
        """Whom the ``key_func`` names.

        Returns:
            Why the request bypasses the cache, where it does; whether it is trusted to have this entry, whatever
            identifies its caller; and what the ``key_func`` has said. A visitor, where visitors share an entry, is not:
            what the session holds is then compared with what the entry depends on.
        """
        named = None if self.options.key_func is None else self.options.key_func(ctx.request)
        if named is not None or not self.options.shares_anonymous or self.options.shared:
            return None, self.credentials_ok, named
        remembered = carries_credential_cookie(environ, self.cookies_of(ctx.app))
        emptied = session_identifies(opened_session(ctx.request)) and not session_identifies(session_of(ctx))
        return (
            request_verdict(environ, remembered or emptied, credentials_ok=False, credentials=self._credentials),
            False,
            None,
        )

    def has_session(self, ctx: Any, environ: Mapping[str, Any]) -> bool:
        """Whether a request has a session that says who is asking, or a cookie that does.

        So it has where what runs before the view has taken that out of the session: what was taken says who is asking.
        """
        session = session_of(ctx)
        if session_identifies(session) or session_identifies(opened_session(ctx.request)):
            return True
        if "HTTP_COOKIE" not in environ:
            return False
        more = (ctx.app.session_interface.get_cookie_name(ctx.app),) if session is None else ()
        return carries_credential_cookie(environ, (*self.cookies_of(ctx.app), *more))

    def cookies_of(self, app: Flask) -> list[str]:
        """The cookies that identify a caller, beside that of the session."""
        return [*self._credentials_cookies, *filter(None, map(app.config.get, _COOKIE_SETTINGS))]

    def bypassed(self, reason: Reason) -> None:
        """Count a request that bypassed the cache; warn once where a ``key_func`` did not help."""
        observer = self.views.observer
        observer.bypassed(self.policy)
        if self._warned or self.options.key_func is None or reason not in (Reason.AUTHORIZATION, Reason.SESSION):
            return
        if self.credentials_ok:
            return
        self._warned = True
        observer.warn_once(
            f"per_user/{self.options.function}",
            "requests with credentials bypass the cache at %s: its key_func is trusted to name the caller only on a "
            "type with per_user=True",
            self.options.function,
        )

    def mention(self, about: str, message: str, *args: object) -> None:
        """Say once of this view why its answers are not stored, or not served, and what to do about it."""
        function = self.options.function
        self.views.observer.warn_once(f"{about}/{function}", "%s: " + message, function, *args)

    def mention_field(self, field: str) -> None:
        """Say once that requests with a field bypass the cache."""
        self.mention(
            f"field/{field}",
            "requests with %s bypass the cache, as the answer depends on it and it may identify the caller. %s",
            shown_field(field),
            remedy_for(field),
        )

    def facts(self, ctx: Any, environ: Mapping[str, Any]) -> RequestFacts:
        """What the judgement of a response needs to know of the request."""
        return request_facts(environ, self.has_session(ctx, environ), credentials=self._credentials)

    @property
    def credentials(self) -> frozenset[str]:
        """The names in an environ that identify a caller."""
        return self._credentials

    def endpoint_function(self, ctx: Any) -> Any:
        """What Flask has called for the request, where that leads to this view; else ``None``."""
        return ctx.app.view_functions[ctx.request.endpoint] if self.serves(ctx) else None

    def serves(self, ctx: Any) -> bool:
        """Whether the request is for this view, and not for another one that called it."""
        conversion = raw_environ(ctx.request).get(CONVERSION)
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

    def key(
        self, ctx: Any, environ: Mapping[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any], named: Key | None
    ) -> str | None:
        """The stored key of the URL that a request asks for; ``None`` when the ``key_func`` gives none.

        So it is, but for development and tests, where what the view is called with has no stable form: a user who was
        looked up by a decorator above.

        Args:
            ctx: the request's context.
            environ: the WSGI environ.
            args: what the view is called with.
            kwargs: the same.
            named: what the ``key_func`` gave, see :meth:`called_by`.
        """
        options, request = self.options, ctx.request
        names = self.views.engine.names
        if options.key_func is not None:
            if named is None and not options.shares_anonymous:
                return None
            if not options.composes:
                # Readable, or hashed here: a hash that a client sent must not reach the entry it stands for.
                return names.stored(self.policy.name, named, hashed=False)
        get = environ.get
        host = get("HTTP_HOST")
        routed = not (args or kwargs or request.view_args) or self.is_routed(ctx, args, kwargs)
        is_told_apart = self._is_told_apart or (routed and self.serves(ctx))
        plain = is_told_apart and routed and named is None and host is not None
        raw = (host, environ["wsgi.url_scheme"], get("SCRIPT_NAME"), get("PATH_INFO"), get("QUERY_STRING"))
        if plain:
            stored = self._ids.get(raw)
            if stored is not None:
                return stored
        more: list[Key] = [] if named is None else [key_id(named)]
        try:
            if not is_told_apart:
                more.append(options.identity())  # raises where it is not the URL that tells such views apart
            if not routed:
                if any(isinstance(value, Exception) for value in args):  # an error handler's: no two are the same
                    return None
                more.append((args[options.is_method :], kwargs))
            made = default_id(self._of_release, self.target(request), *more)
        except InvalidKeyError as error:
            if self.views.in_development():
                raise
            self.mention("key", "requests bypass the cache: %s", error)
            return None
        stored = names.entry(self.policy.name, made)
        self.views.check_hosts(ctx.app, request)
        if plain and sum(map(len, filter(None, raw))) <= _LONGEST_REMEMBERED:
            self._ids[raw] = stored
        return stored

    def is_routed(self, ctx: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether the call has the arguments that the URL map gives, so that the URL has them all.

        The very objects: what runs before the view may have put another in the place of one that it equals.
        """
        request = ctx.request
        given = view_args_of(request)
        if args[self.options.is_method :]:
            return False
        if not given or not kwargs:
            return not given and not kwargs
        return kwargs.keys() == given.keys() and all(kwargs[name] is value for name, value in given.items())

    def key_of(self, target: Target) -> str:
        """The stored key of a URL, as :meth:`keyed` gives it, whose view is called with what the URL map gives."""
        return self.views.engine.names.entry(self.policy.name, default_id(self._of_release, target))

    def target(self, request: Request) -> Target:
        """The URL of a request as it stands in the key."""
        return self.keyed(target_of(request))

    def keyed(self, target: Target) -> Target:
        """A URL as it stands in the key: with the query as the type wants it."""
        query = filtered_query(target.query, self.policy.type.query)
        return target if query is target.query else target._replace(query=query)


def remedy_for(field: str) -> str:
    """What to do where a field keeps requests from the cache."""
    if field == ADDRESS:
        return "Read the client's address outside the view, or have the key name it: key_func on a per_user type"
    if field == TARGET:
        return "Read the path and the query that Flask has decoded: of these each spelling is the same URL"
    text = (
        "To cache for each caller, use key_func=by_caller(...) on a per_user type; if the answer is the same for all, "
        "shared=True"
    )
    name = shown_field(field)
    if ":" not in field:
        return f'{text}; if it depends on the value alone, vary=["{name}"]; if it negotiates, RCACHE_NEGOTIATED'
    if field.startswith(("cookie:", "arg:")):
        return f'{text}; if it depends on the value alone, vary=["{name}"]'
    return text


def has_flashes(ctx: Any) -> bool:
    """Whether messages wait to be shown in this request, which happens once."""
    session = session_of(ctx)
    return bool((session and session_value(session, "_flashes")) or getattr(ctx, "flashes", None))


def is_session_changed(session: object, opened: Mapping[str, Any] | None) -> bool:
    """Whether a session holds something else than when it was opened; what Flask and login libraries note is none.

    Args:
        session: as it is now.
        opened: what it held then: :attr:`Reads.session <flask_rcache.observed.Reads>`.
    """
    if not isinstance(session, dict):
        return False
    before = opened or {}
    if not before and not dict.__len__(session):
        return False
    names = {*before, *dict.keys(session)} - QUIET_SESSION
    return any(before.get(name, before) != dict.get(session, name, before) for name in names)


def conditions(ctx: Any, view: BoundView) -> Mapping[str, Any]:
    """The environ whose conditions and range the answer is to obey; an empty one for another view that wants it whole.

    Source: RFC 9110 sections 13.1 and 14.2: they concern the target of the request.
    """
    environ: Mapping[str, Any] = raw_environ(ctx.request)
    return environ if environ.keys().isdisjoint(CONDITIONS) or view.serves(ctx) else {}
