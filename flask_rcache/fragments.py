"""Parts of pages: the Jinja tag ``{% cache %}``, and :func:`fragment` for code.

Owns the tag's syntax, and what tells two fragments apart. A fragment is a value like any other, loaded by the engine.
It is never refreshed in the background: its variables are those of the request that renders it.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from hashlib import blake2b
from typing import Any, Final, cast

from flask import current_app, has_app_context
from jinja2 import Environment, TemplateNotFound, Undefined, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from markupsafe import Markup

from .context import EXTENSION, current_cache, request_context
from .engine.calls import NEVER, Block
from .engine.manager import CacheManager
from .errors import ConfigError, InvalidKeyError
from .model.bounded import BoundedDict
from .model.cache_type import AUTO, CacheType, Tags
from .model.keys import Key
from .observed import Observed, describe, observing

__all__ = ["FragmentExtension", "Used", "fragment", "read_by_processors", "used_in"]

logger: Final = logging.getLogger("flask_rcache")

_OPTIONS: Final = ("ttl", "tags", "vary", "type")
_EXAMPLE: Final = '{% cache "sidebar", ttl=300, tags=["menu"], vary=[user.id] %}'
#: The fragment whose block runs.
_running: Final[ContextVar[_Part | None]] = ContextVar("rcache_fragment", default=None)
#: What was warned of, for each fragment.
_warned: Final[BoundedDict[tuple[str, str], None]] = BoundedDict(1000)


@contextmanager
def fragment(
    name: str,
    *,
    ttl: float | timedelta | None = None,
    tags: Tags = (),
    vary: object = (),
    type: CacheType | str = CacheType.DEFAULT,
) -> Iterator[Block]:
    """Cache a part of a page that code makes.

    The block sets ``part.value`` when ``part.is_missing``: ``with fragment("sidebar", vary=[user.id]) as part: …``.

    A block that raises, or that does not set ``value``, stores nothing; nor does one that reads the session, headers or
    other data of the request, which would be shown to others: a function ``vary`` that reads it puts it in the key.

    Args:
        name: of the fragment: the same name elsewhere is the same fragment, and ``fragment:<name>`` is a tag of it.
        ttl: seconds, or a ``timedelta``; the type's when left out.
        tags: labels by which it can be invalidated.
        vary: values that tell its forms apart, or one value, or a function that returns them.
        type: the cache type, or its registered name.

    Raises:
        ConfigError: an option is not usable.
    """
    part = _Part(_checked(name), "")
    call = part.options(ttl, tags, type)
    with current_cache.block(call.pop("type"), part.key(vary), **call) as block:
        if not block.is_missing:
            yield block
            return
        with part.observed(vary):
            yield block


#: The names that a block reads, the templates that it includes, and the names that its ``vary`` reads.
Used = tuple[tuple[str, ...], tuple[str | None, ...], tuple[str, ...]]


class FragmentExtension(Extension):
    """The tag ``{% cache %}``; every app with a cache has it."""

    tags = {"cache"}  # noqa: RUF012  # Jinja's

    def parse(self, parser: Parser) -> nodes.Node:
        """What stands in the template becomes a call of :meth:`_render` with the block."""
        line = next(parser.stream).lineno
        if parser.stream.current.type == "block_end":
            parser.fail(f"a cached fragment needs a name: write {_EXAMPLE}", line)
        name = parser.parse_expression()
        if isinstance(name, nodes.Const) and not (isinstance(name.value, str) and name.value):
            parser.fail(f"a fragment's name is a non-empty string, not {name.value!r}: write {_EXAMPLE}", line)
        options: dict[str, nodes.Expr] = {}
        while parser.stream.current.type != "block_end":
            parser.stream.skip_if("comma")
            self._parse_option(parser, options)
        body = parser.parse_statements(("name:endcache",), drop_needle=True)
        # Another block under the same name, here or in another template, is another fragment.
        source = f"{parser.name}\n{body!r}".encode("utf-8", "surrogatepass")
        place = blake2b(source, digest_size=12).hexdigest()
        used = nodes.Const(used_in(body, options.get("vary")))
        if "vary" in options:  # evaluated again where the block runs: what it reads is in the key
            body.insert(0, nodes.ExprStmt(self.call_method("_vary_read", [options["vary"]])))
        given = nodes.List([name, *(options.get(each, nodes.Const(None)) for each in _OPTIONS)])
        call = self.call_method("_render", [nodes.MarkSafeIfAutoescape(nodes.Const(place)), used, given])
        return nodes.CallBlock(call, [], [], body).set_lineno(line)

    @staticmethod
    def _parse_option(parser: Parser, options: dict[str, nodes.Expr]) -> None:
        token = parser.stream.expect("name")
        if token.value not in _OPTIONS or token.value in options:
            parser.fail(
                f"{token.value!r} is no option of a fragment, or is given twice; there are {', '.join(_OPTIONS)}: "
                f"write {_EXAMPLE}",
                token.lineno,
            )
        parser.stream.expect("assign")
        options[token.value] = parser.parse_expression()

    @staticmethod
    def _vary_read(_: object) -> None:
        """What the block has read up to here was read by its ``vary``."""
        part = _running.get()
        if part is not None:
            part.vary_read()

    def _render(self, place: str, used: Used, given: list[Any], caller: Callable[[], Any]) -> Any:
        """The fragment as the template shows it: a string, or in an async environment an awaitable of one."""
        name, ttl, tags, vary, type = given
        manager = _manager()
        if manager is None:
            return caller()
        # Where the template escapes, the place is Markup: a block that escapes is another than one that doesn't.
        part = _Part(_checked(name), f"{place}{'e' if isinstance(place, Markup) else ''}")
        try:
            key = part.key(() if vary is None else vary)
        except InvalidKeyError as error:
            if manager.settings.strict:
                raise
            part.warn("vary", f"its vary can't be a key: {error}")
            return caller()
        call = part.options(ttl, () if tags is None else tags, CacheType.DEFAULT if type is None else type)

        if self.environment.is_async:

            async def aload() -> str:
                part.note_processors(self.environment, used)
                with part.observed():
                    return str(await cast(Awaitable[str], caller()))

            return manager.afetch(call.pop("type"), key, aload, **call)

        def load() -> str:
            part.note_processors(self.environment, used)
            with part.observed():
                return str(caller())

        return manager.fetch(call.pop("type"), key, load, **call)


class _Part:
    """One use of a fragment.

    Args:
        name: of the fragment.
        place: which block of which template it is; empty for one in code.
    """

    __slots__ = ("_observed", "_place", "_reads", "_reads_of_vary", "name")

    def __init__(self, name: str, place: str) -> None:
        self.name: Final = name
        self._place: Final = place
        self._observed: Observed | None = None
        self._reads: frozenset[str] = frozenset()
        self._reads_of_vary: frozenset[str] = frozenset()

    def key(self, vary: object) -> Key:
        """The key of this form of it.

        Raises:
            InvalidKeyError: a value of ``vary`` can't be in a key.
        """
        vary = vary() if callable(vary) and not isinstance(vary, Undefined) else vary
        values = tuple(vary) if isinstance(vary, list | tuple | set | frozenset) else (vary,)
        for value in values:
            if isinstance(value, Undefined):
                raise InvalidKeyError(
                    f"vary of fragment {self.name!r} has an undefined value: {value._undefined_name!r}"
                )
        return ("fragment", self.name, self._place, values)

    def options(self, ttl: Any, tags: Any, type: Any) -> dict[str, Any]:
        """The options of a fetch."""
        return {
            "type": _in_the_request(current_cache.engine.policies.resolve(type)),
            "ttl": ttl,
            "tags": (f"fragment:{self.name}", *((tags,) if isinstance(tags, str) or tags is AUTO else tags)),
            "keep": self._keep,
            "name": self.shown,
            "judged": True,
        }

    @property
    def shown(self) -> str:
        """What messages call it."""
        return f"fragment {self.name!r}"

    @contextmanager
    def observed(self, vary: object = None) -> Iterator[None]:
        """Note what is read of the request inside, but for what a function ``vary`` reads."""
        with observing(request_context(), current_cache.settings.identity_g) as self._observed:
            token = _running.set(self)
            try:
                if callable(vary):
                    vary()
                    self.vary_read()
                yield
            finally:
                _running.reset(token)
                self._reads |= self._observed.reads
                self._observed = None

    def note_processors(self, environment: Environment, used: Used) -> None:
        """Note what the app's context processors read for the names that the block uses and ``vary`` does not.

        They have run before the block, so what they read for it would not be seen.
        """
        self._reads |= read_by_processors(environment, used)

    def vary_read(self) -> None:
        """What was read so far is in the key."""
        if self._observed is not None:
            self._reads_of_vary |= self._observed.reads

    def _keep(self, _: object) -> object:
        reads = self._reads - self._reads_of_vary
        if not reads:
            return True
        how = "name it in vary" if self._place else "give vary a function that reads it"
        self.warn("reads", f"it reads {describe(reads)}, which is not in its key: {how}")
        return NEVER

    def warn(self, about: str, text: str) -> None:
        """Say once why it is not cached."""
        if (self.name, about) not in _warned:
            _warned[self.name, about] = None
            logger.warning("[CACHE] %s is not cached: %s", self.shown, text)


def read_by_processors(environment: Environment, used: Used) -> frozenset[str]:
    """What the app's context processors read for the names that a block uses and its ``vary`` does not."""
    app, context = current_app, request_context()
    names, templates, covered = used
    known = _with_included(environment, set(names), list(templates))
    scopes = (None, *(context.request.blueprints if context is not None else ()))
    reads: set[str] = set()
    for function in [each for scope in scopes for each in app.template_context_processors.get(scope, ())]:
        with observing(context, current_cache.settings.identity_g) as seen:
            given = set(app.ensure_sync(function)())
        if (given if known is None else given & known) - set(covered):
            reads |= seen.reads
    return frozenset(reads)


def used_in(body: list[nodes.Node], vary: nodes.Node | None) -> Used:
    """What a block uses: for :func:`read_by_processors`."""
    return (*_used(body), _names(vary) if vary is not None else ())


def _names(node: nodes.Node) -> tuple[str, ...]:
    """The names that an expression or a block reads."""
    found = [node] if isinstance(node, nodes.Name) else []
    return tuple(sorted({each.name for each in (*found, *node.find_all(nodes.Name)) if each.ctx == "load"}))


def _used(body: list[nodes.Node]) -> tuple[tuple[str, ...], tuple[str | None, ...]]:
    """The names that a block reads, and the templates that it includes; ``None`` for one whose name is not known."""
    block = nodes.Scope(body)
    found: list[Any] = list(block.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)))
    constants = [each.template.value if isinstance(each.template, nodes.Const) else None for each in found]
    return _names(block), tuple(name if isinstance(name, str) else None for name in constants)


def _with_included(environment: Environment, names: set[str], templates: list[str | None]) -> set[str] | None:
    """The names with those of included templates, and so on; ``None`` when that can't be told: any may be read."""
    seen: set[str] = set()
    while templates:
        template = templates.pop()
        if template in seen:
            continue
        if template is None or environment.loader is None:
            return None
        seen.add(template)
        try:
            source = environment.loader.get_source(environment, template)[0]
        except TemplateNotFound:
            return None
        more, included = _used(environment.parse(source).body)
        names.update(more)
        templates += included
    return names


@functools.lru_cache(maxsize=256)
def _in_the_request(cache_type: CacheType) -> CacheType:
    """The type without refreshes in the background, which have no request."""
    if cache_type.stale_while_revalidate or cache_type.early_refresh:
        return cache_type.replace(stale_while_revalidate=0, early_refresh=0)
    return cache_type


def _checked(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise ConfigError(f"a fragment's name is a non-empty string, not {name!r:.80}: write {_EXAMPLE}")
    return name


def _manager() -> CacheManager | None:
    """The current app's cache; ``None`` outside of an app, and in one without a cache."""
    if not has_app_context():
        return None
    return current_cache if EXTENSION in current_app.extensions else None
