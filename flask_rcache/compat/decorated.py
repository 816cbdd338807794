"""The way of a decorated function's call through the cache: what ``cached``, ``memoize`` and the template tag share.

Owns the options that those have in common, and what is kept of an answer: nothing that depends on what was read of a
request and is not in the key, and nothing that is for one visitor. Keys are their callers' to make.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from flask import current_app
from werkzeug.exceptions import HTTPException

from ..engine.fetching import MISSING, NEVER
from ..errors import EncodeError
from ..observed import Field, Observed, describe
from .answers import Answer, Page, as_page, pack, page_in, refusal, unpack
from .contract import KeyValues, NoValues, Timeout, lifetime
from .readers import audience_of, blocked_by, is_for_once, observing_here, read_before, root_here, uncovered

__all__ = ["Load", "Options", "answer_of", "call", "is_true", "reading"]


class Options(NamedTuple):
    """What ``cached`` and ``memoize`` are given alike; see :meth:`Cache.cached <.flask_caching.Cache.cached>`."""

    unless: Callable[..., Any] | None = None
    forced_update: Callable[..., Any] | None = None
    is_stale: Callable[..., Any] | None = None
    response_filter: Callable[..., Any] | None = None
    cache_none: bool = False


#: Those of the template tag.
NO_OPTIONS: Final = Options()


def is_true(function: Callable[..., Any] | None, *args: Any, own: int = 0, **kwargs: Any) -> bool:
    """Whether an option's function says yes.

    Args:
        function: the option; ``None`` says no.
        args: what it may be called with: all of them if it takes more than ``own``, else the first ``own``.
        own: how many arguments are its own, before those of the decorated function.
        kwargs: the same.
    """
    if function is None:
        return False
    return bool(function(*args, **kwargs) if _takes(function) > own else function(*args[:own]))


@functools.lru_cache(maxsize=1024)
def _takes(function: Callable[..., Any]) -> int:
    """How many arguments an option's function takes by position or by name."""
    parameters = inspect.signature(function).parameters.values()
    return sum(each.kind is not each.KEYWORD_ONLY for each in parameters)


def reading(functions: Iterable[Callable[[], object]]) -> frozenset[str]:
    """What functions read of the request: the key's, and those that decide whether it is asked for."""
    with observing_here() as observed:
        for function in functions:
            function()
    return frozenset(observed.reads)


class Load:
    """One load of a key: runs what is decorated, and says what is kept of its answer.

    Args:
        run: calls it.
        name: what warnings call it.
        advice: what a warning says to do about what was read.
        options: of the decorator.
        timeout: gives the timeout of an answer.
        covered: what was read of the request for the key.
        warn: says once, about what it is given first, that something is not cached.
        is_stored: whether the answer may be stored, whatever it is.
        is_page: whether it is the answer of a view to a request for its path.
        given: the arguments of the call.
        on_run: called before it.
        keeps_errors: whether an ``HTTPException`` that it raises is an answer.

    Attributes:
        answer: what was returned, or the ``HTTPException`` that was raised; ``MISSING`` when nothing was run.
        name: what warnings call it.
        reads: what was read of the request besides.
        reads_covered: what was read of the request and is in the key.
    """

    def __init__(
        self,
        run: Callable[[], Answer],
        *,
        name: str,
        advice: str,
        options: Options = NO_OPTIONS,
        timeout: Callable[[Answer], Timeout],
        covered: Callable[[], frozenset[str]],
        warn: Callable[[str, str], None],
        is_stored: bool = True,
        is_page: bool = False,
        given: Iterable[object] = (),
        on_run: Callable[[], object] = lambda: None,
        keeps_errors: bool = False,
    ) -> None:
        self.answer: Answer = MISSING
        self.reads_covered: frozenset[str] = frozenset()
        self._run: Final = run
        self.name: Final = name
        self._advice: Final = advice
        self._options: Final = options
        self._timeout: Final = timeout
        self._covered: Final = covered
        self._is_stored: Final = is_stored
        self._is_page: Final = is_page
        self._warner: Final = warn
        self._given: Final = list(given)
        self._on_run: Final = on_run
        self._keeps_errors: Final = keeps_errors
        self.reads: frozenset[str] = frozenset()
        self._is_kept: object = True
        self._observed: Observed | None = None

    def __call__(self) -> Any:
        """Run it; the answer as it is stored."""
        self._on_run()
        before = read_before() if self._is_page else ()
        with observing_here() as observed:
            self._observed = observed
            try:
                answer = self._run()
                if inspect.isgenerator(answer):
                    answer = _joined(answer)
            except HTTPException as error:
                if not self._keeps_errors:
                    raise
                answer = error
        self.answer = answer
        self._is_kept = self._judged(answer)
        try:
            packed = pack(answer)
        except EncodeError:
            self._is_kept = False
            return None
        if self._is_kept and self._is_page:
            return self._for_whom(before, observed, packed)
        if self._is_kept:
            self._is_kept = self._is_for_all(self.reads | observed.beside(self._given))
        return packed

    def cover(self) -> None:
        """What was read up to here is in the key."""
        if self._observed is not None:
            self.reads_covered |= self._observed.reads

    def ttl(self, _: object) -> float:
        """Seconds that the answer is kept."""
        return lifetime(self._timeout(self.answer))

    def keep(self, _: object) -> object:
        """Whether the answer is kept."""
        return self._is_kept

    def _for_whom(self, before: Iterable[Field], observed: Observed, packed: Any) -> Any:
        """The answer with the requests that it is for."""
        if is_for_once():
            self._is_kept = False
            return packed
        covered = self._covered() if observed.noted or before else frozenset[str]()
        audience = audience_of(before, observed.noted, covered)
        if audience.refused:
            self._is_kept = NEVER
            self._warn("reads", f": it reads {audience.refused}, which its key does not contain: {self._advice}")
            return packed
        blocking = blocked_by(audience.fields)
        if blocking:
            self._is_kept = False
            self._warn(blocking, f" for requests with {blocking}, which it reads: {self._advice}")
        return as_page(Page(root_here(), audience.fields), packed)

    def _is_for_all(self, reads: frozenset[str]) -> object:
        """Whether a value of a function may be kept."""
        reads -= self.reads_covered
        reads = uncovered(reads, self._covered()) if reads else reads
        if not reads:
            return True
        self._warn("reads", f": it reads {describe(reads)}, which its key does not contain: {self._advice}")
        return NEVER

    def warn_of(self, error: Exception) -> None:
        """Say once that the call has no key."""
        self._warn("key", f": its key can't be made: {error}")

    def _judged(self, answer: Answer) -> object:
        if not self._is_stored or (answer is None and not self._options.cache_none):
            return False
        accepts = self._options.response_filter
        if accepts is not None:
            shown = answer.get_response() if isinstance(answer, HTTPException) else answer
            if not accepts(shown):
                return False
        why = refusal(answer)
        if why and not why.startswith("with status"):
            self._warn("answer", f": it returns an answer {why}")
        return not why

    def _warn(self, about: str, text: str) -> None:
        """Say once why it is not cached."""
        self._warner(f"compat/{about}/{self.name}", f"{self.name} is not cached{text}")


def answer_of(backend: KeyValues | NoValues, key: str, load: Load, *, refresh: bool, **how: Any) -> Answer:
    """The answer under a key, which is loaded when it is not there.

    Args:
        backend: where it is kept.
        key: of the call.
        load: what is run.
        refresh: load it now, and replace what is there.
        how: more of ``CacheManager.fetch``.
    """
    found = backend.fetch(key, load, ttl=load.ttl, keep=load.keep, refresh=refresh, **how)
    page = page_in(found) if load.answer is MISSING else None
    if page is not None and blocked_by(page.fields):
        load()
    elif page is not None and page.root != root_here():  # of another host, whose links it has
        backend.fetch(key, load, ttl=load.ttl, keep=load.keep, refresh=True, **how)
    return unpack(found) if load.answer is MISSING else load.answer


def _joined(chunks: Iterable[Any]) -> Any:
    """What a generator gives: one text, or bytes, or a list."""
    items = list(chunks)
    if all(isinstance(each, str) for each in items):
        return "".join(items)
    return b"".join(items) if all(isinstance(each, bytes) for each in items) else items


def call(function: Callable[..., Any], app: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a function, or run a coroutine function to its end as Flask does."""
    if not inspect.iscoroutinefunction(function):
        return function(*args, **kwargs)
    return (current_app or app).ensure_sync(function)(*args, **kwargs)
