"""One call of a decorated view that found nothing fresh: waiting, the run of the view, and what stands in for it.

Owns the way of a request from the look to the commit, written once for threads and asyncio. Loads are ``loading``'s;
storing happens in ``commit``, when the final headers are known.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any, Final
from weakref import WeakKeyDictionary

from flask import Flask, Response, current_app
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException

from ..engine.admission import Served, fresh
from ..engine.single_flight import Load, current_load
from ..engine.waiting import Step
from ..http import HIDDEN_FIELDS, Reason
from ..model.cache_type import check_tags
from ..model.entry import StoredResponse
from ..model.forks import new_lock
from ..model.keys import user_tag, url_tag
from .background import REFRESHED
from .binding import Options, serves
from .lookup import LOOKS, Lookup
from .reply import mark, say

__all__ = ["Visit", "is_failure", "own", "plain"]

_ABORT_SECONDS: Final = 2.0
#: The cached properties of a request that are made of hidden fields.
_PARSED: Final = ("if_modified_since", "if_none_match", "if_range", "range")

#: The loads of each request that has some: they end when its final headers are known.
_unfinished: Final[WeakKeyDictionary[Any, list[Load]]] = WeakKeyDictionary()
_unfinished_lock: Final = new_lock()


class Visit(Lookup):
    """A request that may be answered from the cache, or fill it."""

    __slots__ = ()

    def admit(self) -> Generator[Step, None, Response | None]:
        """Wait for others where that helps; a response, or ``None`` when the view must run."""
        if self.no_fill is not None:
            return None
        policy = self.binding.policy
        for _ in range(LOOKS):
            steps = self.manager.loading.admit(policy, self.key, self.reading, self.arrived)
            at_once = self._refreshes() or self._holds_others_up()
            admitted = _at_once(steps) if at_once else (yield from steps)
            if admitted is None:
                break
            if isinstance(admitted, Load):
                if self._refreshes():
                    policy.count("refreshes")
                self._prepare(admitted)
                return None
            response = self._served(admitted)
            if response is not None:
                return response
            self.arrived = time.monotonic_ns()
            self.reading = self.manager.loading.look(policy, self.key, self.binding.ask)
            entry = fresh(self.reading)
            if entry is not None and isinstance(entry.content, StoredResponse) and entry.content.status:
                return self._served(Served(entry))
        if self._refreshes():  # somebody else refreshes it
            self.environ[REFRESHED] = True
            return Response(status=204)
        self.no_fill = Reason.BUSY
        return None

    def _holds_others_up(self) -> bool:
        """Whether this request has a load that ends only with the request, beside those this call is part of.

        It must not wait then: another request may hold what it wants, and want what it holds.
        """
        with _unfinished_lock:
            loads = set(_unfinished.get(self.context, ()))
        around = current_load()
        while around is not None:
            loads.discard(around)
            around = around.parent
        return any(_under_way(load) for load in loads)

    def _served(self, served: Served) -> Response | None:
        """The response of another's load or a stale one; ``None`` when that only says which variants there are."""
        content = served.entry.content
        if not isinstance(content, StoredResponse):
            return None
        if not content.status:
            self._learn(content)
            return None
        self.manager.shared(self.binding.policy, served)
        now = self.reading.now if served.stale and self.reading is not None else served.entry.created
        if served.stale:
            return self._reply(served.entry, content, now, "STALE")
        return self._reply(served.entry, content, now, "MISS", hit=False, fwd=self.forward, collapsed=True)

    def _prepare(self, load: Load) -> None:
        """Take a load over: its tags, and the conditions that the view must not see."""
        options = self.binding.options
        members = options.members
        try:
            if options.tags is not None:
                args, kwargs = self.call
                members = tuple(map(user_tag, check_tags(options.tags(**options.arguments(args, kwargs)))))
        except BaseException:
            self.manager.loading.abandon(load)
            raise
        load.tags.update(dict.fromkeys(members or ()))
        # What a write to the URL does not find by its key, it finds by this.
        by_url = options.key_func is None and self.binding.routed(self.context, *self.call)
        if not by_url or not serves(self.context, options):
            load.tags[url_tag(self.binding.target(self.context.request))] = None
        self.load = load
        with _unfinished_lock:
            _unfinished.setdefault(self.context, []).append(load)
        self.hidden = {name: self.environ.pop(name) for name in HIDDEN_FIELDS if name in self.environ}
        self._forget_parsed()
        self.deferred = _deferred(self.context)

    def _forget_parsed(self) -> None:
        """What werkzeug has made of the conditions before, and would go on showing."""
        for name in _PARSED:
            self.context.request.__dict__.pop(name, None)

    @property
    def defers(self) -> bool:
        """Whether the view has registered ``after_this_request`` functions: on a hit nobody would call them."""
        return _deferred(self.context) > self.deferred

    @contextmanager
    def running(self) -> Iterator[None]:
        """The view's run: its load is current, conditions are hidden, and whatever happens the lease ends."""
        load = self.load
        if load is None:
            yield
            return
        try:
            with load:
                yield
        except BaseException as error:
            answered = isinstance(error, HTTPException) and not is_failure(error)
            failure = error if isinstance(error, Exception) and not answered else None
            # `abort(404)` is an answer that cannot be kept: those who waited get theirs all at the same time.
            self.manager.loading.abandon(load, error=failure, pass_for=_ABORT_SECONDS if answered else 0.0)
            # Its flight has the error, whose traceback has this request: kept there, neither would ever go.
            with _unfinished_lock:
                loads = _unfinished.get(self.context, [])
                if load in loads:
                    loads.remove(load)
            raise
        finally:
            self.environ.update(self.hidden)
            self._forget_parsed()

    def salvaged(self) -> Response | None:
        """The expired response that stands in when the view fails (``stale_if_error``)."""
        fallback = self.load.fallback if self.load is not None else None
        return None if fallback is None else self._served(Served(fallback, stale=True))


def _deferred(ctx: Any) -> int:
    return len(getattr(ctx, "_after_request_functions", ()))


def _under_way(load: Load) -> bool:
    return load.grant is not None or (load.flight is not None and not load.flight.event.is_set())


def _at_once(steps: Generator[Step, None, Served | Load]) -> Served | Load | None:
    """The end of an algorithm, or ``None`` when it would wait."""
    try:
        next(steps)
    except StopIteration as stop:
        admitted: Served | Load = stop.value
        return admitted
    steps.close()
    return None


def is_failure(error: BaseException) -> bool:
    """Whether the view failed, for others too; ``abort(403)`` is an answer, and to this one caller.

    Source: RFC 5861 section 4 (an error is 500, 502, 503 or 504).
    """
    if isinstance(error, HTTPException):
        return error.code is not None and error.code >= 500
    return isinstance(error, Exception)


def plain(returned: Any, reason: Reason, options: Options) -> Response:
    """What a view returned, as a response that is marked as a bypass."""
    response = own(current_app, returned, options)
    mark(response, "BYPASS", None)
    say(response, fwd="method" if reason is Reason.METHOD else "bypass", detail=reason)
    return response


def own(app: Flask, returned: Any, options: Options) -> Response:
    """What a view returned, as a response of this request; an object that the view may keep is left as it is."""
    response = app.make_response(returned)
    if response is returned or (isinstance(returned, tuple) and response is returned[0]):
        response = copy(response)
        response.headers = Headers(response.headers)
    for name in options.vary:
        response.vary.add(name)
    return response
