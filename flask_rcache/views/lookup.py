"""The look of a request: answered from what is stored, or found to need a load.

Owns the way of a request up to the point where nothing fresh was found. Which requests may use the cache is ``http``'s
to say; waiting for others and running the view are ``visit``'s.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any, Final, Self

from flask import Response

from ..context import EXTENSION, context, manager_of
from ..engine.admission import fresh
from ..engine.manager import CacheManager
from ..engine.single_flight import Load, current_load
from ..http import Reason, RequestFacts, parse_cache_control
from ..model.entry import MICROSECONDS, Entry, Freshness, StoredResponse
from ..stores.protocol import Reading
from .background import CLOSED, JUDGED, REFRESHED, REFRESHING, refreshable, refreshing
from .binding import Binding, Options, conditions
from .reply import hit, reply
from .variants import names_of_marker, variant_key

if TYPE_CHECKING:
    from flask.ctx import RequestContext

__all__ = ["LOOKS", "Lookup"]

#: A marker may lead to another marker, and somebody may write meanwhile.
LOOKS: Final = 3


class Lookup:
    """A request, and what is stored for it.

    ``stored`` is the key of the URL, ``key`` that of the variant that was looked up.
    """

    __slots__ = (
        "_facts",
        "arrived",
        "binding",
        "call",
        "context",
        "deferred",
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
        self.deferred = 0
        self._facts: RequestFacts | None = None

    @classmethod
    def begin(cls, options: Options, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Response | Self | Reason:
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
        stored = None if reason is not None else binding.key(manager, ctx, environ, args, kwargs)
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
                    early = cls(binding, manager, ctx, stored, (args, kwargs))
                    early.key, early.reading = visit_key, reading
                    early._refresh_later()
                asked = conditions(ctx, options)
                return hit(binding.ready(app.response_class), content, asked, age=age, ttl=entry.ttl, key=shown)
        visit = cls(binding, manager, ctx, stored, (args, kwargs))
        visit.key, visit.arrived, visit.reading = visit_key, arrived, reading
        return visit._look()

    # Looking

    def _look(self) -> Response | Self:
        """What is not a plain hit: follow the URL's marker to the variant, or find that there is nothing fresh."""
        loading, policy = self.manager.loading, self.binding.policy
        for _ in range(LOOKS):
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
        self.no_fill = self._may_not_fill()
        if self.no_fill is Reason.CONTEXT:
            self.binding.bypassed(self.no_fill)
        else:
            self.manager.missed(policy, self.key, self.reading)
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
        closed = self.environ.get(CLOSED)
        if closed is not None and closed() is self.context.request:  # called by a body that is being streamed
            return Reason.CONTEXT
        facts = self.facts
        return Reason.REQUEST_NO_STORE if facts.no_store else None

    @property
    def facts(self) -> RequestFacts:
        """What the judgement of the response needs to know of the request, as it came."""
        if self._facts is None:
            self._facts = self.binding.facts(self.context, self.environ)
        return self._facts

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
            environ=conditions(self.context, self.binding.options),
            verdict=verdict,
            key=self.shown_key,
            status={"hit": True, "ttl": ttl, **status},
        )
