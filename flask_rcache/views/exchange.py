"""One request's exchange with the cache: looking, waiting for others, running the view, and the end.

Owns the way of a request that is no plain hit, from the lookup to the end of its load. Which requests may use the cache
is ``http``'s, who loads and who waits ``engine.load``'s, what is stored ``commit``'s.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from flask import Flask, Response
from werkzeug.exceptions import HTTPException, default_exceptions

from ..context import entered
from ..engine.calls import MISSING
from ..engine.decision import Decision, decide, fresh, is_never_fresh
from ..engine.driving import Driver
from ..engine.load import Done, Loaded, Reader, RunLoader, Shared, Steps, load
from ..engine.loading import Load, Patience, Terms, current_load, record_read
from ..errors import RCacheError
from ..http import HIDDEN_FIELDS, Reason, RequestFacts, parse_cache_control, united, validators
from ..model import chance
from ..model.entry import Entry, StoredResponse, VariantMarker
from ..model.keys import key_tag, url_tag
from ..model.scope import Scope
from ..observed import Field, Observed, Reads, observe, raw_environ, session_of, unobserved, watch_g
from ..stores.protocol import Begin, Lookup
from .background import JUDGED, REFRESHED, REFRESHING, RELOADING, refresh_job, refreshable
from .bound import BoundView, conditions
from .calls import found_by
from .dependencies import UNSEEN, Dependencies, dependencies, fields_noted
from .handed import HandedResult
from .layers import Conversion, Handed, HandedHit, Returned
from .reply import MadeOnce, own_response, reply
from .validators import Stating
from .variants import Known, selected_key

__all__ = ["Answer", "Exchange", "Found", "is_failure", "may_have"]

#: A marker may lead to another marker, and somebody may write meanwhile.
_LOOKS: Final = 3
_NOTHING_READ: Final = Dependencies(())
#: The statuses that stand for a failure. Source: RFC 5861 section 4.
_FAILURES: Final = frozenset({500, 502, 503, 504})
#: The cached properties of a request that are made of hidden fields.
_PARSED: Final = ("if_modified_since", "if_none_match", "if_range", "range")


def may_have(view: BoundView, ctx: Any, fields: tuple[str, ...], *, trusted: bool) -> bool:
    """Whether a request may have an answer that depends on fields: it has none that identifies.

    What is made of the answer depends on them as well.
    """
    request = ctx.request
    if not trusted:
        selection = view.selection(fields)
        if selection.identifying and selection.blocked_by(raw_environ(request), session_of(ctx)):
            return False
    if not view.serves(ctx):
        reads = observe(request, session_of(ctx))
        for kind, name in fields_noted(fields):
            reads.note(kind, name)
    return True


def is_failure(error: Exception, app: Flask) -> bool:
    """Whether the view failed, so that an expired answer may stand in; ``abort(403)`` and ``abort(501)`` are answers.

    So is an exception that the app has an error handler for; one for all exceptions makes failures look nice.

    Source: RFC 5861 section 4 (an error is 500, 502, 503 or 504).
    """
    if isinstance(error, HTTPException):
        answer = error.response
        return (answer.status_code if error.code is None and answer is not None else error.code) in _FAILURES
    if isinstance(error, RCacheError):  # the app uses the cache wrongly, as RCACHE_STRICT is to show
        return False
    handled = {kind for of_scope in app.error_handler_spec.values() for kind in of_scope.get(None, ())}
    return not any(kind in handled for kind in type(error).__mro__ if kind not in (Exception, BaseException, object))


#: What answers a request: a response, or what layers above make one of.
Answer = Response | Returned


class Exchange:
    """A request that found nothing fresh.

    Args:
        view: what was called.
        ctx: the request's context.
        scope: of the request.
        url_key: the key of the URL.
        args: what the view was called with.
        kwargs: the same.
        reads: the record of what is read of the request.

    Attributes:
        conversion: where decorators above the view may convert what it returns.
        stored_result: what the view has returned, encoded, where that is what is stored.
        guest: the request's context, where it ends with that: a copy in a thread, a test's.
        key: of the variant that was looked up.
        lookup: what was found there, unusable; ``None`` when the store is away.
        load: the load that the view's run is; ``None`` when its result is not stored in any case.
        no_fill: why it is not.
        field: what of the request identifies its caller, so that it bypasses.
        trusted: whether the key names the caller, or the answer is for everyone.
        has_authorization: whether only what permits it is for this request, which says with Authorization who it is.
        own_reads: from where to where in the request's reads those of the decorator's own functions are.
        dependencies: what the answer depends on, once the view has returned.
        changed: whether the view has changed the session.
        declared: the fields that the answer itself says it varies by.
        asked_of: the expired entry of which the view is asked whether it is still good; ``None`` when it is not asked.
        confirmed: whether the view has said that it is.
        stated: the validators that the view has stated, see :func:`~flask_rcache.not_modified`.
        refreshes: whether this is the background's own request for this URL.
        hidden: the conditions and the range of the request, which the view does not see.
        pending: what waits for the final headers; ``commit``'s.
    """

    # What most exchanges leave as it is, so that making one costs what it differs in.
    began = 0
    lookup: Lookup | None = None
    load: Load | None = None
    no_fill: Reason | None = None
    field = ""
    has_authorization = False
    own_reads: tuple[int, int] = (0, 0)
    dependencies = _NOTHING_READ
    changed = False
    asked_of: Entry | None = None
    confirmed = False
    hidden: Mapping[str, Any] = MappingProxyType({})
    pending: Any = None
    conversion: Conversion | None = None
    declared: tuple[str, ...] = ()
    stored_result: bytes | None = None
    _answer: Answer | None = None
    _before: Sequence[Field] = ()
    _conditions: Mapping[str, str] = MappingProxyType({})
    # An expired entry that a background request replaces, and the lookup that stands for it.
    _set_aside: tuple[Lookup, Entry] | None = None
    _deferred = 0
    _modified: bool | None = None
    _observed: Observed | None = None
    _noted: frozenset[Field] = frozenset()
    _facts: RequestFacts | None = None
    _looks = 0
    _reader: Reader | None = None
    _steps: Steps | None = None
    _terms: Terms | None = None

    def __init__(
        self,
        view: BoundView,
        ctx: Any,
        scope: Scope,
        *,
        url_key: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        reads: Reads,
    ) -> None:
        environ = raw_environ(ctx.request)
        self.view: Final = view
        self.ctx: Final = ctx
        self.environ: Final = environ
        self.scope: Final = scope
        self.guest: Final = entered(ctx)
        self.url_key: Final = url_key
        self.refreshes: Final = environ.get(REFRESHING) == url_key
        self.args: Final = args
        self.kwargs: Final = kwargs
        self.reads: Final = reads
        self.key = url_key
        self.tags: tuple[str, ...] = view.tags
        self.trusted = view.credentials_ok
        self.stated: Final = Stating(environ)

    # Looking

    def look(self) -> Answer | None:
        """What is not a plain hit: follow the URL's marker to the variant, or find that there is nothing fresh."""
        for _ in range(_LOOKS):
            lookup = self.lookup
            if lookup is None or lookup.entry is None:
                break
            entry = self._usable()
            if entry is None:
                break
            if isinstance(entry.content, VariantMarker):
                if fresh(lookup) is None or not self._follow(entry.content.fields):
                    break
                self.lookup = self._read()
                continue
            if not self._may_have(entry.fields) or not self._is_permitted(entry):
                break
            answer = self._served(entry, lookup)
            if answer is not None:
                return answer
            break
        if not self.refreshes and self.no_fill is None:
            self._check_fill()
        return None

    def block(self, field: str) -> None:
        """The request has what identifies its caller: it gets an answer of its own, which is not stored."""
        if self.has_authorization and field == "authorization":
            self.bypass_authorization()
            return
        self.field, self.no_fill = field, Reason.FIELD
        self.view.bypassed(Reason.FIELD)
        self.view.mention_field(field)

    def bypass_authorization(self) -> None:
        """The request gets an answer of its own, as what there is does not permit that it has it."""
        self.no_fill = Reason.AUTHORIZATION
        self.view.bypassed(Reason.AUTHORIZATION)

    def _is_permitted(self, entry: Entry) -> bool:
        """Whether a request with Authorization may have an answer, which says so itself; else it bypasses."""
        if not self.has_authorization:
            return True
        content = entry.content
        if isinstance(content, StoredResponse) and self.view.permits_authorization(content.headers):
            return True
        self.bypass_authorization()
        return False

    def _may_have(self, fields: tuple[str, ...]) -> bool:
        """Whether the request may have an answer that depends on fields; else it bypasses."""
        if not fields or may_have(self.view, self.ctx, fields, trusted=self.trusted):
            return True
        selection = self.view.selection(fields)
        self.block(selection.blocked_by(self.environ, session_of(self.ctx)))
        return False

    def _read(self) -> Lookup | None:
        self.began = time.monotonic_ns()
        return self.view.views.engine.guarded.read(self.view.policy, self.key, self.tags)

    def _usable(self) -> Entry | None:
        """The entry that was found, if it is a response of this view or a marker; otherwise there is none."""
        lookup = self.lookup
        entry = lookup.entry if lookup is not None else None
        if lookup is None or entry is None or isinstance(entry.content, VariantMarker):
            return entry
        reason = "garbage"  # a value under a key_func's key: no answer
        if self._is_answer(entry.content, entry.origin):
            return entry
        if entry.origin == self.view.origin:
            reason = "unconverted"  # what only another endpoint of the view can use
        elif isinstance(entry.content, StoredResponse):
            reason = "other-view"
            self._warn_of_other(entry.origin)
        self.lookup = Lookup(None, lookup.now, lookup.identity, reason)
        return None

    def _is_answer(self, content: object, origin: str) -> bool:
        """Whether it is this view's, and of use to whoever has called it."""
        if origin != self.view.origin:
            return False
        if isinstance(content, StoredResponse):
            return self.conversion is None or self.conversion.takes_responses
        return self.conversion is not None

    def _warn_of_other(self, origin: str) -> None:
        mine, other = sorted((self.view.origin, origin))
        self.view.views.observer.warn_once(
            f"origin/{mine}/{other}",
            "the views %s and %s have one key in cache type %r, and each replaces the other's answers: "
            "put something in the key that tells them apart",
            mine,
            other,
            self.view.policy.name,
        )

    def _follow(self, fields: tuple[str, ...]) -> bool:
        """Go on from a marker to the variant; whether there is another key to read than the one just read."""
        views = self.view.views
        selection = self.view.selection(fields)
        views.remember(self.url_key, self.view, selection)
        if not self.trusted:
            field = selection.blocked_by(self.environ, session_of(self.ctx))
            if field:
                self.block(field)
                return False
        before = self.key
        self.key = selected_key(views.engine.names, self.url_key, selection, self.environ, self.ctx.request)
        self.tags = (*self.view.tags, key_tag(self.url_key))
        return self.key != before

    def _served(self, entry: Entry, lookup: Lookup) -> Answer | None:
        """The answer that a response of this view is, or ``None`` when it has to be loaded anew."""
        observer, policy = self.view.views.observer, self.view.policy
        inside = current_load() is not None
        decision = decide(entry, lookup.now, inside_load=inside, beta=policy.beta, draw=chance.draw())
        if decision is Decision.LOAD:
            return None
        if self.refreshes and (decision is Decision.STALE or self.environ[JUDGED] in (None, lookup.identity)):
            self.lookup = Lookup(None, lookup.now, lookup.identity, "refresh")
            self._set_aside = self.lookup, entry
            return None
        if self.refreshes:  # loaded meanwhile
            return self._refreshed()
        if decision is not Decision.STALE and self._is_forced():
            self.lookup = Lookup(None, lookup.now, lookup.identity, "refresh")
            return None
        # In the background it would be asked for without Authorization.
        is_own = self.has_authorization
        can_refresh = decision is not Decision.HIT and not is_own and refreshable(self.view, self.ctx, self.kwargs)
        if decision is Decision.STALE and not can_refresh:
            return None
        if can_refresh:
            job = refresh_job(self.view, self.ctx, self.url_key, lookup.identity)
            self.view.views.engine.refresher.submit(self.key, job)
        stale = decision is Decision.STALE
        answer = self._reply(entry, lookup.now, "STALE" if stale else "HIT", hit=True, stale=stale)
        if answer is None:
            self.lookup = Lookup(None, lookup.now, lookup.identity, "garbage")
        elif stale:
            observer.stale(policy, self.key, lookup)
        else:
            observer.hit(policy, self.key, lookup, self.began)
        return answer

    def _refreshed(self) -> Response:
        """The answer to a background request that has nothing to do."""
        self.environ[REFRESHED] = True
        return Response(status=204)

    def _is_forced(self) -> bool:
        """Whether the caller asks for a new load, and the app lets this caller."""
        allow = self.view.views.allow_refresh
        if "HTTP_CACHE_CONTROL" not in self.environ:
            return False
        if RELOADING in self.environ:
            return True
        if allow is None:
            return False
        asked = parse_cache_control([self.environ["HTTP_CACHE_CONTROL"]])
        if not (asked.no_cache or asked.max_age == 0):
            return False
        with unobserved():
            return bool(allow(self.ctx.request))

    def _check_fill(self) -> None:
        """Find out whether the answer to this request can't be stored in any case."""
        if self.environ["REQUEST_METHOD"] != "GET":
            self.no_fill = Reason.HEAD
        elif self.scope.is_finished:  # called by a body that is being streamed
            self.no_fill = Reason.CONTEXT
        elif "HTTP_CACHE_CONTROL" in self.environ and self.facts.no_store:
            self.no_fill = Reason.REQUEST_NO_STORE
        if self.no_fill is Reason.CONTEXT:
            self.view.bypassed(self.no_fill)
        elif self.no_fill is not None:
            self.missed()

    @property
    def facts(self) -> RequestFacts:
        """What the judgement of the response needs to know of the request, as it came."""
        if self._facts is None:
            self._facts = self.view.facts(self.ctx, self.environ)
        return self._facts

    # Waiting for others

    def admit(self) -> Answer | None:
        """Wait for others where that helps; an answer, or ``None`` when the view must run."""
        driver = self.view.views.engine.driver
        try:
            while (started := self._start(driver)) is not None:
                self._take(driver.advance(*started))
        except BaseException:
            self.close()
            raise
        return self._answer

    async def admit_async(self) -> Answer | None:
        """:meth:`admit` without blocking the event loop."""
        driver = self.view.views.engine.driver
        try:
            while (started := self._start(driver)) is not None:
                self._take(await driver.advance_async(*started))
        except BaseException:
            self.close()
            raise
        return self._answer

    def _start(self, driver: Driver) -> tuple[Steps, Terms] | None:
        """Ask for a load; ``None`` when that is settled."""
        if self._answer is not None or self.load is not None or self.no_fill is not None:
            return None
        if self._looks >= _LOOKS:
            self.no_fill = Reason.BUSY
            self.missed()
            return None
        self._looks += 1
        patience = Patience.WAIT
        if self.refreshes:
            patience = Patience.GIVE_UP
        elif (
            self.has_authorization or is_never_fresh(self.lookup) or (self.scope.exchanges and self._holds_others_up())
        ):
            patience = Patience.RUN_ALONE
        self._terms = driver.terms(self.view.policy, patience=patience, shares_errors=False)
        self._reader = Reader(self.key, self.tags, self.lookup)
        self._steps = load([self._reader], driver.flights, self._terms)
        return self._steps, self._terms

    def _holds_others_up(self) -> bool:
        """Whether this request has a load that ends only with the request, beside those that this call is part of.

        It must not wait then: another request may hold what it wants, and want what it holds.
        """
        mine = set[int]()
        around = current_load()
        while around is not None:
            mine.add(id(around))
            around = around.parent
        loads = [exchange.load for exchange in self.scope.exchanges]
        return any(each is not None and id(each) not in mine and _is_waited_for(each) for each in loads)

    def _take(self, found: RunLoader | Done) -> None:
        """Go on with what asking for a load came to."""
        terms = self._terms
        assert terms is not None
        if terms.waited or terms.collapsed:
            self.view.views.observer.waited(terms.policy, terms.waited, terms.collapsed)
        if self._steps is None:  # the request ended meanwhile, and left behind the thread or task that this runs in
            self.no_fill = Reason.CONTEXT
            return
        if isinstance(found, RunLoader):
            (self.load,) = found.loads
            self.scope.exchanges.append(self)
            self._prepare(self.load)
            return
        self._steps = None
        shared = found.shared.get(self.key)
        if shared is None:
            self._answer = self._refreshed()  # another process or request refreshes it
            return
        self._answer = self._shared(shared)
        if self._answer is None and self.no_fill is None:
            self.lookup = self._read()
            self._answer = self.look()

    def _shared(self, shared: Shared) -> Answer | None:
        """The answer that another's result is, or a stale one; ``None`` when it is none for this request."""
        entry = shared.entry
        if isinstance(entry.content, VariantMarker):
            self._follow(entry.content.fields)
            return None
        if not self._may_have(entry.fields) or not self._is_permitted(entry):
            return None
        if not self._is_answer(entry.content, entry.origin):
            if isinstance(entry.content, StoredResponse) and entry.origin != self.view.origin:
                self._warn_of_other(entry.origin)
            return None
        observer, policy, lookup = self.view.views.observer, self.view.policy, self.lookup
        if shared.stale:
            now = entry.created if lookup is None else lookup.now
            answer = self._reply(entry, now, "STALE", hit=True, stale=True)
            if answer is not None:
                observer.stale(policy, self.key, lookup)
            return answer
        answer = self._reply(entry, entry.created, "MISS", hit=False, fwd=self.forward, collapsed=True)
        if answer is not None:
            observer.missed(policy, self.key, lookup)
        return answer

    def _prepare(self, load: Load) -> None:
        """Take a load over: its tags, and the conditions that the view must not see."""
        if self.refreshes:
            self.view.views.observer.refreshing(self.view.policy)
        view, options, environ = self.view, self.view.options, self.environ
        load.observes, tags = options.found_tags(self.args, self.kwargs)
        # What a write to the URL does not find by its key, it finds by this.
        is_routed = not (self.args or self.kwargs or self.reads.view_args)
        is_routed = is_routed or view.is_routed(self.ctx, self.args, self.kwargs)
        if options.key_func is not None or not (is_routed and view.has_plain_origin and view.serves(self.ctx)):
            tags = (*tags, url_tag(view.target(self.ctx.request)))
        tags = (*tags, *found_by(view, self.ctx.request, self.args, self.kwargs, is_routed=is_routed))
        load.tags.update(dict.fromkeys(tags))
        if not environ.keys().isdisjoint(HIDDEN_FIELDS):
            self.hidden = {name: environ.pop(name) for name in HIDDEN_FIELDS if name in environ}
        self._ask()
        if self.hidden or self._conditions:
            self._forget_parsed()
        self._deferred = len(getattr(self.ctx, "_after_request_functions", ()))

    def _ask(self) -> None:
        """Ask the view whether the expired entry is still good, where there is a valid one with validators of its own.

        Source: RFC 9111 section 4.3.1.
        """
        if self.has_authorization:  # the entry may be of another caller
            return
        lookup = self._reader.lookup if self._reader is not None else None
        entry = lookup.entry if lookup is not None else None
        if self._set_aside is not None and lookup is self._set_aside[0]:
            entry = self._set_aside[1]
        content = entry.content if entry is not None else None
        if entry is None or not isinstance(content, StoredResponse) or entry.origin != self.view.origin:
            return
        if entry.fields and not may_have(self.view, self.ctx, entry.fields, trusted=self.trusted):
            return
        self._conditions = validators(int(content.status[:3]), content.headers)
        if self._conditions and self.view.policy.type.revalidate != 0:
            self.asked_of, self.lookup = entry, lookup
            self.environ.update(self._conditions)
        else:
            self._conditions = {}

    @property
    def confirmed_fields(self) -> tuple[str, ...]:
        """What the response that the view has confirmed depends on, beside what this run has read."""
        return self.asked_of.fields if self.confirmed and self.asked_of is not None else ()

    def _forget_parsed(self) -> None:
        """What werkzeug has made of the conditions before, and would go on showing."""
        for name in _PARSED:
            self.ctx.request.__dict__.pop(name, None)

    # The view

    def __enter__(self) -> None:
        """The view runs: its load is current, what it reads is noted, and conditions are hidden."""
        if self.conversion is not None:
            self.conversion.__enter__()
        self.stated.__enter__()
        if self.load is None:
            return
        self.load.__enter__()
        reads, session = self.reads, session_of(self.ctx)
        if reads:
            start, end = self.own_reads
            read = list(reads)
            self._before = [each for each in (read[:start] + read[end:] if end else read) if self._may_select(each)]
        if self.view.options.shared:
            watch_g(reads)
        self._observed = Observed(self.ctx.request, reads=reads).__enter__()
        self._modified = getattr(session, "modified", None)
        if self._modified:
            session.modified = False

    def _may_select(self, read: Field) -> bool:
        """Whether what was read before the view can say who is asking: of an environ what is data, or is not there.

        What else servers and tracing keep there, such as sockets, spans and times, is another one in each request.
        """
        kind, name = read
        return kind != "environ" or isinstance(self.environ.get(name) or "", str | bytes | Mapping | Sequence)

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> None:
        """It has run; where it raised an exception, :meth:`failed` is called with that."""
        if self.conversion is not None:
            self.conversion.__exit__(None, None, None)
        self.stated.__exit__()
        if self.load is None:
            return
        self.load.__exit__(kind, error, traceback)
        self._note_reads()
        if self.hidden or self._conditions:
            for name in self._conditions:
                self.environ.pop(name, None)
            self.environ.update(self.hidden)
            self._forget_parsed()
        if kind is not None and not issubclass(kind, Exception):
            self.close()

    def _note_reads(self) -> None:
        """What was read until now is what the answer depends on."""
        observed, self._observed = self._observed, None
        if observed is None:
            return
        observed.__exit__()
        if observed.noted or self._before:
            self._noted = frozenset(observed.noted)
            self._find_dependencies()
        reads = self.reads
        if reads.made_by is not None:
            self.dependencies = self.dependencies._replace(whole="what the app's request class has read")
        elif reads.is_unseen:
            self.dependencies = self.dependencies._replace(whole=UNSEEN)
        elif reads.is_late:
            self.dependencies = self.dependencies._replace(whole="what ran after an answer from the cache has read")
        if self._modified is not None:
            session = session_of(self.ctx)
            self.changed = bool(session.modified)
            if self._modified:
                session.modified = True

    def _find_dependencies(self) -> None:
        self.dependencies = dependencies(self._before, self._noted, self.view.counting(trusted=self.trusted))

    def made(self, returned: Any) -> Response:
        """What the view has returned, as a response; what an app's own ``make_response`` reads counts."""
        app = self.ctx.app
        if self.load is None or type(app.make_response) is not MadeOnce:
            return own_response(app, returned)
        with Observed(self.ctx.request, reads=self.reads) as observed:
            response = own_response(app, returned)
        if not observed.noted <= self._noted:
            whole = self.dependencies.whole
            self._noted |= observed.noted
            self._find_dependencies()
            self.dependencies = self.dependencies._replace(whole=self.dependencies.whole or whole)
        return response

    def failed(self, error: Exception) -> Answer | None:
        """The load ends with what the view raised; the expired answer that stands in, if any (``stale_if_error``)."""
        if not self.is_open:
            return None
        done = self.end(Loaded(error=error, failed=is_failure(error, self.ctx.app)))
        shared = done.shared.get(self.key)
        answer = None if shared is None else self._shared(shared)
        if answer is None:
            self.missed()
        # The flight has the error, whose traceback has this request: kept here, neither would ever go.
        self.load = None
        return answer

    def stand_in(self, status: int) -> Answer | None:
        """The expired answer that stands in for an answer that says that the view failed."""
        if not self.is_open or self.load is None or self.load.stand_in is None or status not in _FAILURES:
            return None
        return self.failed(default_exceptions[status]())

    @property
    def defers(self) -> bool:
        """Whether the view has registered ``after_this_request`` functions: on a hit nobody would call them."""
        return len(getattr(self.ctx, "_after_request_functions", ())) > self._deferred

    def missed(self) -> None:
        """Count a request whose view has run, or runs now."""
        self.view.views.observer.missed(self.view.policy, self.key, self.lookup)

    # The end

    @property
    def is_open(self) -> bool:
        """Whether a load is under way that may be stored: not in a thread or task that its request has left behind."""
        return self.load is not None and self._steps is not None

    def end(self, loaded: Loaded) -> Done:
        """The load ends with what it produced; who waited for it goes on."""
        assert self._steps is not None
        assert self._terms is not None
        try:
            done = self.view.views.engine.driver.advance(self._steps, self._terms, loaded)
            assert isinstance(done, Done)
            return done
        finally:
            self.close()

    def close(self) -> None:
        """The load ends without a result, unless it has ended: its lease is free, who waited tries again."""
        steps, self._steps = self._steps, None
        self.pending = None
        if self in self.scope.exchanges:
            self.scope.exchanges.remove(self)
        if steps is not None:
            steps.close()
        if self.load is not None and self.load.lease is not None:
            self.view.views.engine.guarded.release(self.view.policy, [self.load])

    def why_not_stored(self) -> Reason:
        """Why a load without a lease has none."""
        load, reader = self.load, self._reader
        if load is None or load.moment is None or self.lookup is None:
            return Reason.ERROR
        if load.answer is Begin.UNSTORABLE:
            return Reason.OVERTAKEN
        if load.answer is Begin.BUSY or (reader is not None and reader.alone):
            return Reason.BUSY
        return Reason.ERROR if load.answer is None else Reason.OVERTAKEN

    @property
    def is_only_answer(self) -> bool:
        """Whether nothing is known that the answers of the URL depend on, and this load has the URL's own key."""
        is_own = self.load is not None and self.load.key == self.key == self.url_key
        is_new = self.lookup is None or self.lookup.entry is None
        return is_own and is_new and self.url_key not in self.view.views.fields and not self.view.always.fields

    def known_variants(self) -> tuple[Known | None, int]:
        """The marker under the URL's own key, read from the shared store where that is not the load's; and the time."""
        lookup = self.lookup
        if self.key != self.url_key:  # else this load has that key's lease, and there is none
            tags = (*self.view.tags, key_tag(self.url_key))
            lookup = self.view.views.engine.guarded.read(self.view.policy, self.url_key, tags, shared=True)
            if lookup is not None:
                return Known.of(fresh(lookup), lookup.now), lookup.now
        return None, 0 if lookup is None else lookup.now

    def known_fields(self, known: Known | None) -> tuple[str, ...]:
        """The fields that other answers of the URL depend on, as they are kept, as far as they live."""
        if known is not None:
            return known.marker.fields
        entry = fresh(self.lookup) if self.key == self.url_key else None
        own = () if entry is None else entry.fields
        blocking = [f"!{field}" for field in self.view.views.selection_of(self.url_key, self.view).identifying]
        return united(own, () if self.trusted else blocking)

    # What is sent

    @property
    def place(self) -> str:
        """The endpoint and the path, as listings show them."""
        request = self.ctx.request
        path = (request.root_path + request.path).encode(errors="replace").decode()
        return f"{request.endpoint} {path}"

    @property
    def shown_key(self) -> str | None:
        """The key as responses show it."""
        return self.key if self.view.show_key else None

    @property
    def forward(self) -> str:
        """Why the view is called, in the words of RFC 9211."""
        if self.asked_of is not None or (self.lookup is not None and self.lookup.entry is not None):
            return "stale"
        return "vary-miss" if self.key != self.url_key else "uri-miss"

    def _reply(self, entry: Entry, now: int, verdict: str, *, stale: bool = False, **status: Any) -> Answer | None:
        """The answer that an entry is; ``None`` for a result that can't be read."""
        content = entry.content
        answer: Answer
        if status["hit"]:
            status["ttl"] = entry.ttl - entry.age(now)
        if isinstance(content, bytes):
            value = self.view.views.results.decode(content)
            if value is MISSING:
                return None
            answer = Returned(value)
            handed: Handed = HandedResult(
                self.view,
                self.ctx,
                self.url_key,
                verdict,
                shown_key=self.shown_key,
                is_private=self.view.names_caller and self.trusted,
                status=status,
                age=entry.age(now),
            )
        else:
            assert isinstance(content, StoredResponse)
            answer = reply(
                self.ctx.app.response_class,
                entry,
                content,
                now=now,
                environ=conditions(self.ctx, self.view),
                verdict=verdict,
                key=self.shown_key,
                status=status,
            )
            handed = HandedHit(answer)
        record_read(self.view.views.engine.store, entry, stale=stale)
        if self.conversion is not None:
            self.conversion.hand(handed)
        return answer


#: What a lookup comes to.
Found = Response | Returned | Exchange | Reason


def _is_waited_for(load: Load) -> bool:
    return load.lease is not None or (load.flight is not None and not load.flight.is_landed)
