"""The Jinja tag ``{% cache %}``: its syntax, and what its block reads that runs before it."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import Any, Final, cast

from flask import current_app, has_app_context
from jinja2 import Environment, TemplateNotFound, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context, Macro
from markupsafe import Markup

from ..context import EXTENSION, current_cache, request_context
from ..engine.manager import CacheManager
from ..errors import InvalidKeyError
from ..model.cache_type import CacheType
from ..model.objects import code_fingerprint
from ..observed import observing
from .part import EXAMPLE, Part, checked, running

__all__ = ["FragmentExtension", "Used", "begins_with_a_name", "read_by_processors", "used_in"]

_OPTIONS: Final = ("ttl", "tags", "vary", "type")

#: The names that a block reads, the templates that it includes, and the names that its ``vary`` reads.
Used = tuple[tuple[str, ...], tuple[str | None, ...], tuple[str, ...]]


def begins_with_a_name(parser: Parser) -> bool:
    """Whether the tag that a parser stands at begins with the name of a fragment, as Flask-Caching's does not."""
    first = parser.stream.look()
    return first.type == "string" and first.value != "del" and not first.value.strip().isdecimal()


class FragmentExtension(Extension):
    """The tag ``{% cache %}``; every app with a cache has it.

    Another extension of the app may have a tag of that name: Flask-Caching's begins with a timeout.
    """

    tags = {"cache"}  # noqa: RUF012  # Jinja's
    #: Jinja asks the last one with a tag: this one, in whatever order they were added.
    priority = Extension.priority + 1

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        """What stands in the template becomes a call of :meth:`_render` with the block."""
        if not begins_with_a_name(parser):
            for other in self.environment.iter_extensions():
                if not isinstance(other, FragmentExtension) and self.tags <= other.tags:
                    return other.parse(parser)
        line = next(parser.stream).lineno
        if parser.stream.current.type == "block_end":
            parser.fail(f"a cached fragment needs a name: write {EXAMPLE}", line)
        name = parser.parse_expression()
        if isinstance(name, nodes.Const) and not (isinstance(name.value, str) and name.value):
            parser.fail(f"a fragment's name is a non-empty string, not {name.value!r}: write {EXAMPLE}", line)
        options: dict[str, nodes.Expr] = {}
        while parser.stream.current.type != "block_end":
            parser.stream.skip_if("comma")
            self._parse_option(parser, options)
        body = parser.parse_statements(("name:endcache",), drop_needle=True)
        if not self.environment.is_async and _includes_without_context(body):
            parser.fail(
                "Jinja can't include a template without context in a macro or a fragment: leave out `without context`, "
                "or include it outside of {% cache %}",
                line,
            )
        # Another block under the same name, here or in another template, is another fragment.
        source = f"{parser.name}\n{body!r}".encode("utf-8", "surrogatepass")
        place = blake2b(source, digest_size=12).hexdigest()
        used = nodes.Const(used_in(body, options.get("vary")))
        elsewhere: list[nodes.Expr] = [nodes.ContextReference()] if _has_blocks(body) else []
        aliases = _aliased(body, place)
        if "caller" in aliases:
            elsewhere.append(nodes.Name(aliases["caller"], "load"))
        if "vary" in options:  # evaluated again where the block runs: what it reads is in the key
            body.insert(0, nodes.ExprStmt(self.call_method("_vary_read", [options["vary"]])))
        given = nodes.List([name, *(options.get(each, nodes.Const(None)) for each in _OPTIONS)])
        where = nodes.MarkSafeIfAutoescape(nodes.Const(place))
        call = self.call_method("_render", [where, used, given, nodes.List(elsewhere)])
        kept = [
            nodes.Assign(nodes.Name(alias, "store"), nodes.Name(name, "load")).set_lineno(line)
            for name, alias in aliases.items()
        ]
        return nodes.Scope([*kept, nodes.CallBlock(call, [], [], body).set_lineno(line)]).set_lineno(line)

    @staticmethod
    def _parse_option(parser: Parser, options: dict[str, nodes.Expr]) -> None:
        token = parser.stream.expect("name")
        if token.value not in _OPTIONS or token.value in options:
            parser.fail(
                f"{token.value!r} is no option of a fragment, or is given twice; there are {', '.join(_OPTIONS)}: "
                f"write {EXAMPLE}",
                token.lineno,
            )
        parser.stream.expect("assign")
        options[token.value] = parser.parse_expression()

    @staticmethod
    def _vary_read(_: object) -> None:
        """What the block has read up to here was read by its ``vary``."""
        part = running.get()
        if part is not None:
            part.vary_read()

    def _render(self, place: str, used: Used, given: list[Any], elsewhere: list[Any], caller: Callable[[], Any]) -> Any:
        """The fragment as the template shows it: a string, or in an async environment an awaitable of one."""
        name, ttl, tags, vary, type = given
        manager = _manager()
        if manager is None:
            return caller()
        # Where the template escapes, the place is Markup: a block that escapes is another than one that doesn't.
        part = Part(checked(name), f"{place}{'e' if isinstance(place, Markup) else ''}{_code_of(elsewhere)}")
        try:
            key = part.key(() if vary is None else vary)
        except InvalidKeyError as error:
            if manager.settings.strict:
                raise
            part.warn("vary", f"its vary can't be a key: {error}")
            return caller()
        call = part.call(manager, ttl, () if tags is None else tags, CacheType.DEFAULT if type is None else type)

        if self.environment.is_async:

            async def aload() -> str:
                part.note(read_by_processors(self.environment, used))
                with part.observed():
                    return str(await cast(Awaitable[str], caller()))

            return manager.afetch(key=key, loader=aload, **call)

        def load() -> str:
            part.note(read_by_processors(self.environment, used))
            with part.observed():
                return str(caller())

        return manager.fetch(key=key, loader=load, **call)


def read_by_processors(environment: Environment, used: Used) -> frozenset[str]:
    """What the app's context processors read for the names that a block uses and its ``vary`` does not.

    They have run before the block, so what they read for it would not be seen.
    """
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
    names, templates = _used(body)
    if _has_blocks(body) or "caller" in names:
        templates = (*templates, None)
    return names, templates, _names(vary) if vary is not None else ()


def _includes_without_context(body: list[nodes.Node]) -> bool:
    return any(not each.with_context for each in nodes.Scope(body).find_all(nodes.Include))


#: What a macro has beside its arguments. A fragment's block becomes a macro, which would have its own.
_OF_MACROS: Final = ("caller", "varargs", "kwargs")


def _has_blocks(body: list[nodes.Node]) -> bool:
    """Whether another template decides what a part of the body is: one that extends this one, or is extended."""
    block = nodes.Scope(body)
    return block.find(nodes.Block) is not None or not {"self", "super"}.isdisjoint(_names(block))


def _aliased(body: list[nodes.Node], place: str) -> dict[str, str]:
    """Give other names to what a body uses of the macro around it; those names by the names that were there.

    Macros and call blocks inside of it have their own.
    """
    aliases: dict[str, str] = {}
    waiting: list[nodes.Node] = list(body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, nodes.Name) and node.name in _OF_MACROS and node.ctx == "load":
            aliases[node.name] = alias = f"_rcache_{node.name}_{place}"
            node.name = alias
        elif isinstance(node, nodes.CallBlock):
            waiting += [node.call, *node.defaults]
        elif isinstance(node, nodes.Macro):
            waiting += node.defaults
        else:
            waiting += node.iter_child_nodes()
    return aliases


def _code_of(elsewhere: list[Any]) -> str:
    """What tells apart the code of other templates that a block runs: their blocks, and the block of a ``call``."""
    found: list[tuple[str, list[Any]]] = []
    for each in elsewhere:
        if isinstance(each, Context):
            found += sorted(each.blocks.items())
        elif isinstance(each, Macro):
            found.append((each.name or "", [each._func]))
    return _fingerprint(tuple((name, *(each.__code__ for each in functions)) for name, functions in found))


@functools.lru_cache(maxsize=256)
def _fingerprint(found: tuple[tuple[Any, ...], ...]) -> str:
    if not found:
        return ""
    text = repr([(name, *map(code_fingerprint, codes)) for name, *codes in found])
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


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


def _manager() -> CacheManager | None:
    """The current app's cache; ``None`` outside of an app, and in one without a cache."""
    if not has_app_context() or EXTENSION not in current_app.extensions:
        return None
    manager: CacheManager = current_cache._get_current_object()  # type: ignore[attr-defined]  # once, not for each use
    return manager
