"""One call of a decorated view: looked up, answered, or run and handed to the commit.

Owns the way of a request through the cache, written once for threads and asyncio. Which requests and responses may use
it is ``http``'s to say; loads are ``loading``'s; storing happens in ``commit``, when the final headers are known.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from flask import Flask, Response, current_app
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException

from ..current import EXTENSION, carries_session, context, manager_of
from ..entry import MICROSECONDS, Entry, Freshness, StoredResponse
from ..errors import ConfigError
from ..flight import Load, Step, current_load
from ..http import HIDDEN_FIELDS, Reason, RequestFacts, parse_cache_control, request_facts, variant_id
from ..keys import tag_member, url_member
from ..loading import Served, fresh
from ..manager import CacheManager
from ..policy import check_tags
from ..stores.base import Reading
from .background import JUDGED, REFRESHED, REFRESHING, refreshable, refreshing
from .binding import Binding, Options
from .reply import hit, mark, reply, say

if TYPE_CHECKING:
    from flask.ctx import RequestContext

__all__ = ["Visit", "is_failure", "names_of_marker", "own", "plain", "variant_key"]

_LOOKS: Final = 3
_ABORT_SECONDS: Final = 2.0

#: The loads of each request that has some: they end when its final headers are known.
_unfinished: Final[WeakKeyDictionary[Any, list[Load]]] = WeakKeyDictionary()
_unfinished_lock: Final = threading.Lock()


class Visit:
    """A request that may be answered from the cache, or fill it.

    ``stored`` is the key of the URL, ``key`` that of the variant that was looked up.
    """

    __slots__ = (
        "arrived",
        "binding",
        "call",
        "context",
        "environ",
        "hidden",
        "key",
        "load",
        "manager",
        "no_fill",
        "reading",
        "stored",
    )

    def __init__(
        self,
        binding: Binding,
        manager: CacheManager,
        context: RequestContext,
        stored: str,
        call: tuple[tuple[Any, ...], dict[str, Any]],
    ) -> None:
        self.binding: Final = binding
        self.manager: Final = manager
        self.context: Final = context
        self.environ: Final[dict[str, Any]] = context.request.environ
        self.stored: Final = stored
        self.call: Final = call
        self.key = stored
        self.reading: Reading | None = None
        self.arrived = 0
        self.load: Load | None = None
        self.no_fill: Reason | None = None
        self.hidden: dict[str, Any] = {}

    @staticmethod
    def begin(options: Options, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Response | Visit | Reason:
        """Look a request up. A fresh hit is answered here, without anything that only a miss needs.

        Returns:
            The response of a hit; the reason of a bypass; a visit that found nothing fresh.
        """
        ctx = context()
        if ctx is None:
            return Reason.CONTEXT
        app = ctx.app
        manager: CacheManager = app.extensions.get(EXTENSION) or manager_of(app)
        binding: Binding = manager.bindings.get(options) or Binding.of(options, manager)
        request = ctx.request
        environ = request.environ
        reason = binding.bypass(manager, ctx, environ, args, kwargs)
        stored = None if reason is not None else binding.key(manager, request, environ, args, kwargs)
        if stored is None:
            reason = reason or Reason.KEY
            binding.bypassed(reason)
            return reason
        visit_key = stored
        if options.vary or manager.vary_names:
            visit_key = variant_key(manager, options, stored, environ)
        arrived = time.monotonic_ns()
        reading = manager.loading.look(binding.policy, visit_key, binding.ask)
        entry = reading.entry if reading is not None else None
        plain_hit = manager.settings.allow_refresh is None and REFRESHING not in environ
        if plain_hit and entry is not None and reading is not None:
            age = (reading.now - entry.created) / MICROSECONDS
            content = entry.content
            if age < entry.ttl and type(content) is StoredResponse and content.status:
                manager.hit(binding.policy, visit_key, reading, arrived)
                shown = visit_key if manager.settings.show_key else None
                if binding.early and binding.policy.early(entry, reading.now, random.random()):
                    early = Visit(binding, manager, ctx, stored, (args, kwargs))
                    early.key, early.reading = visit_key, reading
                    early._refresh_later()
                return hit(binding.ready(app.response_class), content, environ, age=age, ttl=entry.ttl, key=shown)
        visit = Visit(binding, manager, ctx, stored, (args, kwargs))
        visit.key, visit.arrived, visit.reading = visit_key, arrived, reading
        return visit._look()

    # Looking

    def _look(self) -> Response | Visit:
        """What is not a plain hit: follow the URL's marker to the variant, or find that there is nothing fresh."""
        loading, policy = self.manager.loading, self.binding.policy
        for _ in range(_LOOKS):
            reading = self.reading
            entry = fresh(reading)
            if entry is None or reading is None:
                break
            content = entry.content
            if not isinstance(content, StoredResponse):  # a value under a key_func's key: not an answer
                self.reading = Reading(None, reading.now, reading.identity, "garbage")
                break
            if content.status:
                if self._refreshes() and self.environ[JUDGED] not in (None, reading.identity):
                    self.environ[REFRESHED] = True
                    return Response(status=204)
                if self._refreshes() or self._forced():
                    self.reading = Reading(None, reading.now, reading.identity, "refresh")
                    break
                self.manager.hit(policy, self.key, reading, self.arrived)
                return self._reply(entry, content, reading.now)
            if not self._learn(content):
                break
            self.reading = loading.look(policy, self.key, self.binding.ask)
        if self._refreshes():
            return self
        stale = self._stale()
        if stale is not None:
            return stale
        self.manager.missed(policy, self.key, self.reading)
        self.no_fill = self._may_not_fill()
        return self

    def _stale(self) -> Response | None:
        """The expired response, when it may be served and loaded anew in the background; inside a load it may not."""
        reading = self.reading
        entry = reading.entry if reading is not None else None
        if entry is None or reading is None or entry.freshness(reading.now) is not Freshness.STALE:
            return None
        content = entry.content
        if not isinstance(content, StoredResponse) or not content.status or current_load() is not None:
            return None
        if not refreshable(self):
            return None
        self.manager.refresher.submit(self.key, refreshing(self))
        self.manager.hit(self.binding.policy, self.key, reading, stale=True)
        return self._reply(entry, content, reading.now, "STALE")

    def _refresh_later(self) -> None:
        """Have this URL loaded in the background; once in the fleet, as its lease is."""
        if refreshable(self):
            self.manager.refresher.submit(self.key, refreshing(self))

    def _refreshes(self) -> bool:
        """Whether this is the background's own request for this key."""
        return self.environ.get(REFRESHING) == self.stored

    def _learn(self, marker: StoredResponse) -> bool:
        """Take the names of a marker, and the key they lead to; whether that is another than the one just read."""
        self.manager.remember_vary(self.stored, names_of_marker(marker))
        before, self.key = self.key, variant_key(self.manager, self.binding.options, self.stored, self.environ)
        return self.key != before

    def _forced(self) -> bool:
        """Whether the caller asks for a new load, and the app lets this caller."""
        allow = self.manager.settings.allow_refresh
        if allow is None or "HTTP_CACHE_CONTROL" not in self.environ:
            return False
        asked = parse_cache_control([self.environ["HTTP_CACHE_CONTROL"]])
        return (asked.no_cache or asked.max_age == 0) and bool(allow(self.context.request))

    def _may_not_fill(self) -> Reason | None:
        if self.environ["REQUEST_METHOD"] != "GET":
            return Reason.HEAD
        facts = self.facts
        return Reason.REQUEST_NO_STORE if facts.no_store else None

    @property
    def facts(self) -> RequestFacts:
        """What the judgement of the response needs to know of the request."""
        return request_facts(self.environ, carries_session(self.context.app, self.environ, self.binding.cookies))

    @property
    def shown_key(self) -> str | None:
        """The key as responses show it."""
        return self.key if self.manager.settings.show_key else None

    @property
    def forward(self) -> str:
        """Why the view is called, in the words of RFC 9211."""
        if self.reading is not None and self.reading.entry is not None:
            return "stale"
        return "vary-miss" if self.key != self.stored else "uri-miss"

    def _reply(self, entry: Entry, content: StoredResponse, now: int, verdict: str = "HIT", **status: Any) -> Response:
        ttl = entry.ttl - entry.age(now)
        return reply(
            self.context.app.response_class,
            entry,
            content,
            now=now,
            environ=self.environ,
            verdict=verdict,
            key=self.shown_key,
            status={"hit": True, "ttl": ttl, **status},
        )

    # Running the view

    def admit(self) -> Generator[Step, None, Response | None]:
        """Wait for others where that helps; a response, or ``None`` when the view must run."""
        if self.no_fill is not None:
            return None
        policy = self.binding.policy
        for _ in range(_LOOKS):
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
                members = tuple(map(tag_member, check_tags(options.tags(**options.arguments(args, kwargs)))))
        except BaseException:
            self.manager.loading.abandon(load)
            raise
        load.tags.update(dict.fromkeys(members or ()))
        if options.key_func is not None:
            load.tags[url_member(self.binding.target(self.context.request))] = None
        self.load = load
        with _unfinished_lock:
            _unfinished.setdefault(self.context, []).append(load)
        self.hidden = {name: self.environ.pop(name) for name in HIDDEN_FIELDS if name in self.environ}

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

    def salvaged(self) -> Response | None:
        """The expired response that stands in when the view fails (``stale_if_error``)."""
        fallback = self.load.fallback if self.load is not None else None
        return None if fallback is None else self._served(Served(fallback, stale=True))


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
    if response is returned:
        response = copy(response)
        response.headers = Headers(response.headers)
    for name in options.vary:
        response.vary.add(name)
    return response


def variant_key(manager: CacheManager, options: Options, stored: str, environ: Mapping[str, Any]) -> str:
    """The key of the variant that a request selects; the URL's own key when the answer does not vary."""
    names = manager.vary_names.get(stored, options.vary)
    return manager.names.variant(stored, variant_id(names, environ)) if names else stored


def names_of_marker(marker: StoredResponse) -> tuple[str, ...]:
    """The request fields that a marker says select a variant."""
    if len(marker.headers) != 1:
        raise ConfigError("a marker of variants has one line")
    return tuple(marker.headers[0][1].split(","))
