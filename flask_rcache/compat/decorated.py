"""The way of a decorated function's call through the cache: what ``cached``, ``memoize`` and the template tag share.

Owns the options that those have in common, and what is kept of an answer: nothing that depends on what was read of a
request and is not in the key, and nothing that is for one visitor. Keys are their callers' to make.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, Final

from flask import current_app
from werkzeug.exceptions import HTTPException

from ..engine.calls import MISSING, NEVER
from ..errors import EncodeError
from ..model.named_tuple import NamedTuple
from ..observed import Field, Observed, describe
from .answers import Answer, Page, as_page, pack, page_in, refusal, unpack, whole
from .contract import KeyValues, NoValues, Timeout, lifetime
from .readers import audience_of, blocked_by, is_for_once, observing_here, read_before, root_of, uncovered

__all__ = ["Args", "Kwargs", "Load", "Options", "Plan", "call", "is_true", "reading"]

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


class Options(NamedTuple):
    """What ``cached`` and ``memoize`` are given alike; see :meth:`Cache.cached <.flask_caching.Cache.cached>`."""

    unless: Callable[..., Any] | None = None
    forced_update: Callable[..., Any] | None = None
    is_stale: Callable[..., Any] | None = None
    response_filter: Callable[..., Any] | None = None
    cache_none: bool = False


class Plan(NamedTuple):
    """What is known of something decorated before it is called.

    Args:
        run: calls the plain function.
        name: what warnings call it.
        advice: what a warning says to do about what was read.
        options: of the decorator.
        backend: gives where answers are kept.
        key_of: the key of a call.
        covered: what is read of the request for the key of a call.
        timeout_of: the timeout of an answer.
        tags: of a call.
        on_miss: called with the key, and the call, before it is run.
        keeps_errors: whether an ``HTTPException`` that it raises is an answer.
        is_debug: whether a key that can't be made is an error.
    """

    run: Callable[[Args, Kwargs], Answer]
    name: str
    advice: str
    options: Options
    backend: Callable[[], KeyValues | NoValues]
    key_of: Callable[[Args, Kwargs], str]
    covered: Callable[[Args, Kwargs], frozenset[str]]
    timeout_of: Callable[[Answer], Timeout]
    tags: Callable[[Args], tuple[str, ...]] = lambda _: ()
    on_miss: Callable[[str, Args, Kwargs], object] = lambda *_: None
    keeps_errors: bool = False
    is_debug: Callable[[], bool] = lambda: False


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
    """One call of something decorated: looks its key up, and, as the loader of the key, runs it and judges its answer.

    Args:
        plan: what is decorated.
        args: of the call.
        kwargs: the same.
        page: the context of the request whose path is asked for, where that is what is decorated.
        is_stored: whether the answer may be stored, whatever it is.

    Attributes:
        key: of the call, once it is made.
        answer: what was returned, or the ``HTTPException`` that was raised; ``MISSING`` when nothing was run.
        reads: what was read of the request besides.
        reads_covered: what was read of the request and is in the key.
    """

    __slots__ = (
        "_is_kept",
        "_is_stored",
        "_observed",
        "_page",
        "answer",
        "args",
        "key",
        "kwargs",
        "plan",
        "reads",
        "reads_covered",
    )

    def __init__(
        self,
        plan: Plan,
        args: Args,
        kwargs: Kwargs,
        *,
        page: Any = None,
        is_stored: bool = True,
    ) -> None:
        self.plan: Final = plan
        self.args: Final = args
        self.kwargs: Final = kwargs
        self.key = ""
        self.answer: Answer = MISSING
        self.reads: frozenset[str] = frozenset()
        self.reads_covered: frozenset[str] = frozenset()
        self._page: Final = page
        self._is_stored: Final = is_stored
        self._is_kept: object = True
        self._observed: Observed | None = None

    def get(self) -> Answer:
        """The cached answer, or the function's. A key that can't be made is no reason to fail."""
        plan, options = self.plan, self.plan.options
        try:
            backend = plan.backend()
            self.key = plan.key_of(self.args, self.kwargs)
            tags = plan.tags(self.args)
            anew = options.forced_update is not None and is_true(options.forced_update, *self.args, **self.kwargs)
            if options.is_stale is not None and not anew:
                known = backend.lookup(self.key)
                if known is not MISSING and known is not None:
                    anew = is_true(options.is_stale, known, *self.args, own=1, **self.kwargs)
        except Exception as error:
            if plan.is_debug():
                raise
            self._warn("key", f": its key can't be made: {error}")
            self()
            return self.answer
        answer = self._answer(backend, tags, refresh=anew)
        if answer is None and not options.cache_none:
            if self.answer is MISSING:  # what `set` has put there
                answer = self._answer(backend, tags, refresh=True)
            elif anew:
                backend.delete(self.key)  # which Flask-Caching replaces by None
        return answer

    def _answer(self, backend: KeyValues | NoValues, tags: tuple[str, ...], *, refresh: bool) -> Answer:
        def fetch(refresh: bool) -> Any:
            return backend.fetch(
                self.key, self, ttl=self.ttl, keep=self.keep, refresh=refresh, tags=tags, name=self.plan.name
            )

        found = fetch(refresh)
        if self.answer is not MISSING:
            return self.answer
        if self._page is not None:
            page = page_in(found)
            if page is not None and blocked_by(page.fields, self._page):
                self()
                return self.answer
            if page is not None and not self._is_own(page):
                fetch(True)  # of a view whose key is spelled like this one's, or with links to another host
                if self.answer is MISSING:  # another request has loaded it, for its own host perhaps
                    self()
                return self.answer
        return unpack(found)

    def _is_own(self, page: Page) -> bool:
        """Whether a page that may be shown is of this view, at this endpoint, with links to where the app is."""
        context = self._page
        is_of_view = page.view == self.plan.name and page.endpoint == context.request.endpoint
        return is_of_view and page.root == root_of(context)

    # As a loader

    def __call__(self) -> Any:
        """Run it; the answer as it is stored."""
        plan = self.plan
        plan.on_miss(self.key, self.args, self.kwargs)
        before = () if self._page is None else read_before(self._page)
        with observing_here() as observed:
            self._observed = observed
            try:
                answer = plan.run(self.args, self.kwargs)
                if inspect.isgenerator(answer):
                    answer = _joined(answer)
                if plan.keeps_errors:
                    answer = whole(answer)
            except HTTPException as error:
                if not plan.keeps_errors:
                    raise
                answer = error
        self.answer = answer
        self._is_kept = self._judged(answer)
        try:
            packed = pack(answer)
        except EncodeError:
            self._is_kept = False
            return None
        if self._is_kept and self._page is not None:
            return self._for_whom(before, observed, packed)
        if self._is_kept:
            self._is_kept = self._is_for_all(self.reads | observed.beside([*self.args, *self.kwargs.values()]))
        return packed

    def cover(self) -> None:
        """What was read up to here is in the key."""
        if self._observed is not None:
            self.reads_covered |= self._observed.reads

    def ttl(self, _: object) -> float:
        """Seconds that the answer is kept."""
        return lifetime(self.plan.timeout_of(self.answer))

    def keep(self, _: object) -> object:
        """Whether the answer is kept."""
        return self._is_kept

    def _judged(self, answer: Answer) -> bool:
        options = self.plan.options
        if not self._is_stored or (answer is None and not options.cache_none):
            return False
        accepts = options.response_filter
        if accepts is not None:
            shown = answer.get_response() if isinstance(answer, HTTPException) else answer
            if not accepts(shown):
                return False
        why = refusal(answer, is_of_view=self.plan.keeps_errors)
        if why and not why.startswith("with status"):
            self._warn("answer", f": it returns an answer {why}")
        return not why

    def _for_whom(self, before: Iterable[Field], observed: Observed, packed: Any) -> Any:
        """The answer with the requests that it is for."""
        if is_for_once(self._page):
            self._is_kept = False
            return packed
        plan = self.plan
        covered = plan.covered(self.args, self.kwargs) if observed.noted or before else frozenset[str]()
        audience = audience_of(before, observed.noted, covered)
        if audience.refused:
            self._is_kept = NEVER
            self._warn("reads", f": it reads {audience.refused}, which its key does not contain: {plan.advice}")
            return packed
        blocking = blocked_by(audience.fields, self._page)
        if blocking:
            self._is_kept = False
            self._warn(blocking, f" for requests with {blocking}, which it reads: {plan.advice}")
        return as_page(Page(root_of(self._page), audience.fields, plan.name, self._page.request.endpoint), packed)

    def _is_for_all(self, reads: frozenset[str]) -> object:
        """Whether a value of a function may be kept."""
        reads -= self.reads_covered
        reads = uncovered(reads, self.plan.covered(self.args, self.kwargs)) if reads else reads
        if not reads:
            return True
        self._warn("reads", f": it reads {describe(reads)}, which its key does not contain: {self.plan.advice}")
        return NEVER

    def _warn(self, about: str, text: str) -> None:
        """Say once why it is not cached."""
        name = self.plan.name
        self.plan.backend().warn_once(f"compat/{about}/{name}", f"{name} is not cached{text}")


def _joined(chunks: Iterable[Any]) -> Any:
    """What a generator gives: one text, or bytes, or a list."""
    items = list(chunks)
    if all(isinstance(each, str) for each in items):
        return "".join(items)
    return b"".join(items) if all(isinstance(each, bytes) for each in items) else items


def call(function: Callable[..., Any], app: Any, args: Args, kwargs: Kwargs) -> Any:
    """Call a function, or run a coroutine function to its end as Flask does."""
    if not inspect.iscoroutinefunction(function):
        return function(*args, **kwargs)
    return (current_app or app).ensure_sync(function)(*args, **kwargs)
