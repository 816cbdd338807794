"""What is checked when an app is first used: the cache types of its views, and the settings about types and workers.

Owns the moments (a context, a command, the first request: views are registered after ``init_app``), and what is then an
error and what a warning. Resolving names is ``engine.policies``'s.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Final
from weakref import WeakKeyDictionary

import click
from flask import Flask, appcontext_pushed, request, request_started
from flask.cli import ScriptInfo
from flask.globals import app_ctx

from .config.settings import nearest
from .context import manager_of
from .engine.manager import CacheManager
from .errors import ConfigError, UnknownTypeError
from .functions import misplaced as misplaced_functions
from .model.cache_type import FROM_HEADERS, CacheType
from .model.observations import is_observed
from .views.layers import install as install_layers
from .views.options import Options, options_of
from .views.options import misplaced as misplaced_views
from .views.reply import make_once

__all__ = ["add_template_tag", "check", "check_at_first_use", "decorated"]

logger: Final = logging.getLogger("flask_rcache")


class _State:
    """What is known of an app that has answered no request yet."""

    __slots__ = ("checked", "discovered", "registered")

    def __init__(self, registered: frozenset[str]) -> None:
        self.registered: Final = registered
        #: How many views there were when their types were discovered, and when all was checked.
        self.discovered = self.checked = -1


_states: Final[WeakKeyDictionary[Flask, _State]] = WeakKeyDictionary()


def check_at_first_use(app: Flask) -> None:
    """Discover and check the types on an app's views before its first request or command, and then no more."""
    _states[app] = _State(frozenset(manager_of(app).engine.policies.types))
    # By module-level functions: signals keep receivers weakly.
    appcontext_pushed.connect(_on_context, sender=app)
    request_started.connect(_on_request, sender=app)


def decorated(app: Flask) -> Iterator[tuple[str, Options]]:
    """The endpoints whose views are decorated, with the decorator's options."""
    for endpoint, view in sorted(app.view_functions.items()):
        for options in options_of(view):
            yield endpoint, options


def _on_context(app: Flask, **_: Any) -> None:
    state = _states[app]
    views = len(app.view_functions)
    if state.discovered != views:
        _discover(app)
        state.discovered = views
    if state.checked != views and _is_command(app):
        try:
            check(app, state.registered)
        except ConfigError:
            app_ctx.pop()  # the context that is being pushed
            raise
        state.checked = views


def _on_request(app: Flask, **_: Any) -> None:
    _discover(app)
    check(app, _states[app].registered)
    install_layers(app, manager_of(app).engine.observer.warn_once)
    make_once(app)
    add_template_tag(app)
    # From the first request on Flask takes no more views.
    appcontext_pushed.disconnect(_on_context, sender=app)
    request_started.disconnect(_on_request, sender=app)
    if request.is_multiprocess and not manager_of(app).settings.is_shared:
        logger.warning(
            "[CACHE] several worker processes, and each has a cache of its own (memory://): an "
            "invalidation in one does not apply in the others. Set RCACHE_URL to a Redis or Valkey server"
        )


#: The extension that has the tag ``{% cache %}``, by name: Jinja's compiler is imported when a template needs it.
_TAG: Final = "flask_rcache.fragments.tag.FragmentExtension"


class _WithTag:
    """How an app makes its environment of templates, with the tag: whatever its options and its class are by then.

    Args:
        create: the app's ``create_jinja_environment``.
    """

    __slots__ = ("_create",)

    def __init__(self, create: Callable[[], Any]) -> None:
        self._create: Final = create

    def __call__(self) -> Any:
        """The environment."""
        environment = self._create()
        if _TAG not in environment.extensions:
            environment.add_extension(_TAG)
        return environment


def add_template_tag(app: Flask) -> None:
    """Give an app's templates the tag ``{% cache %}``; again where the environment, or what makes it, was replaced."""
    environment = vars(app).get("jinja_env")
    if environment is not None and _TAG not in environment.extensions:
        environment.add_extension(_TAG)
    elif environment is None and type(app.create_jinja_environment) is not _WithTag:
        app.create_jinja_environment = _WithTag(app.create_jinja_environment)  # type: ignore[method-assign]


def _is_command(app: Flask) -> bool:
    """Whether a command of an app that is loaded runs here; a server's command is none, as requests do the same."""
    context = click.get_current_context(silent=True)
    if context is None or context.info_name == "run":
        return False
    info = context.find_object(ScriptInfo)
    return getattr(info, "_loaded_app", None) is app


def _discover(app: Flask) -> None:
    policies = manager_of(app).engine.policies
    for _, options in decorated(app):
        if isinstance(options.cache_type, CacheType):
            policies.discover(options.cache_type.definition)


def check(app: Flask, registered: frozenset[str]) -> None:
    """Check the types on an app's views, and the settings that name types.

    Args:
        app: its views have been discovered.
        registered: the names of the types that are registered otherwise.

    Raises:
        UnknownTypeError: a view names a type that there is not; the message lists the known ones.
        ConfigError: two views have different types of one name, or ``app.config`` sets the ttl of a type that there is
            not.

    Warns:
        UserWarning: the environment sets the ttl of a type that there is not.
    """
    manager = manager_of(app)
    found: dict[str, tuple[str, CacheType]] = {}
    for endpoint, options in decorated(app):
        try:
            definition = manager.engine.policies.resolve(options.cache_type).definition
        except UnknownTypeError as error:
            raise UnknownTypeError(f"the view at {endpoint!r}: {error}") from None
        name = definition.name
        other, known = found.setdefault(name, (endpoint, definition))
        if known != definition and name not in registered:
            raise ConfigError(
                f"the views at {other!r} and {endpoint!r} have different cache types called {name!r}: rename one, or "
                f"register one with RCache(types=[...]) and use its .replace(...) for the other"
            )
        _compare_ttls(manager, endpoint, options, name)
    _check_ttl_settings(manager)
    _warn_of_misplaced(app, manager)
    _warn_of_unwatched(app, manager)


def _warn_of_misplaced(app: Flask, manager: CacheManager) -> None:
    """Warn of decorators above a route, which has registered the plain function."""
    misplaced = [(name, "cache_response") for _, name in misplaced_views(app)]
    misplaced += [(name, "cached") for name in misplaced_functions(app.view_functions.values())]
    for name, decorator in misplaced:
        manager.engine.observer.warn_once(
            f"misplaced/{name}",
            "the view %s is not cached: its @%s stands above the route. Put the route above it",
            name,
            decorator,
        )


def _warn_of_unwatched(app: Flask, manager: CacheManager) -> None:
    """Warn of views whose tags are ``AUTO`` where no database is watched: their answers are not stored."""
    watched = is_observed(manager.engine.store)
    views = [] if watched else [options.function for _, options in decorated(app) if options.observes]
    if views:
        manager.engine.observer.warn_once(
            f"unwatched/{app.name}",
            "tags=AUTO, but no database is watched: answers of %s are not stored. Make an SQLCache of the engine, or "
            "of Flask-SQLAlchemy's db, before the first request",
            ", ".join(views),
        )


def _compare_ttls(manager: CacheManager, endpoint: str, options: Options, type_name: str) -> None:
    """Say once that a decorator's ttl makes a setting ineffective there."""
    configured = manager.settings.ttls.get(type_name)
    if configured is None or options.ttl is None or options.ttl == configured:
        return
    own = "the response's headers" if options.ttl is FROM_HEADERS else f"{options.ttl:g} s"
    manager.engine.observer.warn_once(
        f"ttl/{endpoint}/{options.function}",
        "%s is %g s, but the view at %r has a ttl in its decorator, which wins: %s",
        manager.settings.ttl_sources[type_name],
        configured,
        endpoint,
        own,
    )


def _check_ttl_settings(manager: CacheManager) -> None:
    known = manager.engine.policies.types
    for name, source in manager.settings.ttl_sources.items():
        if name in known or not source.key.startswith("RCACHE_"):  # CACHE_TTL_… may be another library's
            continue
        keys = [f"RCACHE_TTL_{each.upper()}" for each in (*known, "default")]
        message = (
            f"{source}: there is no cache type {name!r}{nearest(source.key, keys)}; a type that no view has is "
            f"registered with RCache(types=[...])"
        )
        if source.in_config:
            raise ConfigError(message)
        warnings.warn(message, stacklevel=2)
