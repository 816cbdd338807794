"""Flask-Caching's template tag: ``{% cache timeout, name, vary… %}``.

Owns its syntax. A tag that begins with the name of a fragment is this package's own,
``{% cache "sidebar", ttl=300 %}``: both may be used while templates move over.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser

from ..fragments.tag import FragmentExtension, Used, begins_with_a_name, read_by_processors, used_in
from .decorated import Load, Options, Plan

__all__ = ["ATTRIBUTE", "CacheExtension", "fragment_key"]

#: Where an environment has its cache.
ATTRIBUTE: Final = "_template_fragment_cache"
_running: Final[ContextVar[Load | None]] = ContextVar("rcache_compat_fragment", default=None)


def fragment_key(fragment_name: str, vary_on: list[str] | None = None) -> str:
    """The key of a fragment. What its parts have of the character between them is told apart: users may choose one.

    >>> fragment_key("sidebar", ["en", "7"])
    '_template_fragment_cache_sidebar_en_7'
    >>> fragment_key("cart", ["ann_1", "2"]) == fragment_key("cart", ["ann", "1_2"])
    False
    """
    parts = [str(each).replace("\\", "\\\\").replace("_", "\\_") for each in (fragment_name, *(vary_on or ()))]
    return f"_template_fragment_cache_{'_'.join(parts)}"


class CacheExtension(Extension):
    """The tag of an app whose ``Cache`` has ``with_jinja2_ext``."""

    tags = {"cache"}  # noqa: RUF012  # Jinja's

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        """What stands in the template becomes a call of :meth:`_render` with the block."""
        if begins_with_a_name(parser):
            return FragmentExtension(self.environment).parse(parser)
        line = next(parser.stream).lineno
        timeout = parser.parse_expression()
        name: nodes.Expr = nodes.Const(f"{parser.filename}{line}")
        if parser.stream.skip_if("comma"):
            name = parser.parse_expression()
        vary = []
        while parser.stream.skip_if("comma"):
            vary.append(parser.parse_expression())
        body = parser.parse_statements(("name:endcache",), drop_needle=True)
        told_by = nodes.List([name, *vary])
        used = nodes.Const(used_in(body, told_by))
        # Evaluated again where the block runs: what it reads is in the key.
        body.insert(0, nodes.ExprStmt(self.call_method("_cover", [told_by])))
        call = self.call_method("_render", [timeout, name, nodes.List(vary), used])
        return nodes.CallBlock(call, [], [], body).set_lineno(line)

    @staticmethod
    def _cover(_: object) -> None:
        load = _running.get()
        if load is not None:
            load.cover()

    def _render(self, timeout: Any, name: str, vary_on: list[str], used: Used, caller: Callable[[], str]) -> str:
        """The fragment as the template shows it."""
        cache = getattr(self.environment, ATTRIBUTE, None)
        if cache is None:
            return caller()
        key = fragment_key(name, vary_on)
        if timeout == "del":
            cache.delete(key)
            return caller()

        def run(*_: object) -> str:
            token = _running.set(load)
            try:
                return caller()
            finally:
                _running.reset(token)

        def note_processors(*_: object) -> None:
            load.reads = read_by_processors(self.environment, used)

        plan = Plan(
            run,
            f"fragment {name!r}",
            "name it after the fragment's name",
            Options(),
            lambda: cache.cache,
            lambda *_: key,
            lambda *_: frozenset(),
            lambda _: cache.cache.default_timeout if timeout is None else timeout,
            on_miss=note_processors,
        )
        load = Load(plan, (), {})
        return str(load.get())
