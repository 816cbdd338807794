"""Ten thousand generated exchanges against a small, obvious model: what may be reused for whom, and until when.

The model knows nothing of how the cache works. It writes down every answer that the view made, and judges each
answer that a client got: made for this request, or else one that this client may have. Then the test is tested: with
one rule taken away the model must notice.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, NamedTuple

import pytest
from flask import Flask, request
from flask.sessions import SecureCookieSessionInterface
from werkzeug.test import TestResponse

import flask_rcache.http.storable as storable
import flask_rcache.http.targeted as targeted
import flask_rcache.views.bound as bound
import flask_rcache.views.commit as commit
import flask_rcache.views.exchange as exchange
import flask_rcache.views.reply as reply
import flask_rcache.views.unsafe as unsafe
from flask_rcache import CacheManager, CacheType, cache_response, context, views
from flask_rcache.config.settings import load_settings
from flask_rcache.http import request_facts
from flask_rcache.model.keys import Names
from flask_rcache.stores.memory import MemoryStore

pytestmark = pytest.mark.slow

TTL, ERROR_TTL, STALE_IF_ERROR = 60, 10, 100
OPEN = CacheType("open", ttl=TTL, error_ttl=ERROR_TTL, stale_if_error=STALE_IF_ERROR)
MINE = OPEN.replace(name="mine", per_user=True)
SEQUENCES, LENGTH = 100, 100


class Control(NamedTuple):
    """What a Cache-Control means, in the words of RFC 9111; ``permits``: for requests with Authorization, too."""

    kept: bool = True
    lifetime: int = TTL
    stale: bool = True
    private: bool = False
    permits: bool = False


CONTROLS = {
    "": Control(),
    "public": Control(permits=True),
    "max-age=30": Control(lifetime=30),
    "max-age=30, max-age=5": Control(lifetime=5),
    "max-age=50, s-maxage=20": Control(lifetime=20, stale=False, permits=True),
    "max-age=0": Control(lifetime=0),
    "max-age=999": Control(),
    "must-revalidate": Control(stale=False, permits=True),
    "no-store": Control(kept=False),
    "no-cache": Control(lifetime=0, stale=False),
    "private, max-age=40": Control(lifetime=40, private=True),
}
STORABLE = {200, 203, 404, 410}


@dataclass(frozen=True)
class Plan:
    """How a URL answers from now on."""

    status: int = 200
    control: str = ""
    vary: str = ""
    cookie: bool = False
    confirms: bool = False
    reads: bool = False


@dataclass(frozen=True)
class Exchange:
    """One request, and what happens before it."""

    method: str
    path: str
    caller: tuple[str, str] | None
    lang: str | None
    condition: str
    ranged: bool
    control: str
    wait: int
    plan: Plan | None
    fails: bool

    @property
    def headers(self) -> dict[str, str]:
        """What it sends, without conditions."""
        sent = {"Range": "bytes=0-3"} if self.ranged else {}
        if self.caller is not None:
            kind, name = self.caller
            sent |= {kind: f"session={SESSIONS[name]}" if kind == "Cookie" else f"Bearer {name}"}
        if self.lang is not None:
            sent["Accept-Language"] = self.lang
        return sent | ({"Cache-Control": self.control} if self.control else {})

    @property
    def who(self) -> tuple[str, str] | None:
        """Who is asking: a cookie that no session was signed for says nothing."""
        return None if self.caller == FORGED else self.caller


PATHS = ["/open/1", "/open/1?x=1", "/shared/1", "/mine/1"]
FORGED = ("Cookie", "forged")
CALLERS = [("Authorization", "ann"), ("Authorization", "bob"), ("Cookie", "ann"), ("Cookie", "bob"), FORGED]


def _signed(name: str) -> str:
    """The cookie of somebody's session."""
    signer = SecureCookieSessionInterface().get_signing_serializer(_app())
    assert signer is not None
    return str(signer.dumps({"user": name}))


def _app() -> Flask:
    app = Flask("model")
    app.secret_key = "of the model"
    return app


SESSIONS = {"ann": _signed("ann"), "bob": _signed("bob"), "forged": "forged"}


class Dice:
    """Generates exchanges from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        # Two URLs each time, so that there is something to repeat.
        self.paths = self.random.sample(PATHS, 2)

    def often(self, usual: Any, *others: Any, share: float = 0.75) -> Any:
        """Mostly the usual, sometimes one of the others."""
        return usual if self.random.random() < share else self.random.choice(others)

    def plan(self) -> Plan:
        """How a URL answers for a while."""
        return Plan(
            status=self.often(200, 203, 404, 410, 201, 302, 500),
            control=self.random.choice(["", "", *CONTROLS]),
            vary=self.often("", "Accept-Language", "accept-language, X-None", "*", share=0.7),
            cookie=self.often(False, True, share=0.9),
            confirms=self.often(True, False, share=0.6),
            reads=self.often(False, True, share=0.7),
        )

    def exchange(self) -> Exchange:
        """One request."""
        return Exchange(
            method=self.often("GET", "HEAD", "POST", "DELETE", "PROPFIND", share=0.9),
            path=self.random.choice(self.paths),
            caller=self.often(None, *CALLERS, share=0.75),
            lang=self.often("en", None, "", "fr", share=0.6),
            condition=self.often("", "same", "*", "other", "If-Match"),
            ranged=self.often(False, True, share=0.85),
            control=self.often("", "no-store", "no-cache", "max-age=0", share=0.85),
            wait=self.often(0, 4, 12, 25, 61, 170, share=0.85),
            plan=self.plan() if self.random.random() < 0.07 else None,
            fails=self.random.random() < 0.08,
        )


@dataclass(frozen=True)
class Made:
    """An answer that the view made."""

    serial: int
    at: int
    exchange: Exchange
    plan: Plan
    body: bytes

    @property
    def etag(self) -> str:
        return f'"{self.serial}"'

    def confirmed(self, first: Exchange, at: int, plan: Plan) -> Made:
        """The same after a 304: as old as that, and what its header says takes the place of what was said before."""
        control, vary = plan.control or self.plan.control, plan.vary or self.plan.vary
        plan = replace(self.plan, control=control, vary=vary, cookie=plan.cookie)
        return replace(self, exchange=first, at=at, plan=plan)


@dataclass
class Model:
    """Everything that was made and written, and the rules for using it again."""

    now: int = 0
    made: dict[int, Made] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)
    seen: set[tuple[Any, ...]] = field(default_factory=set)
    repeats: int = 0
    hits: int = 0
    confirmations: int = 0

    def judge(
        self, exchange: Exchange, answer: TestResponse, ran: Made | None, confirms: bool, condition: str | None
    ) -> None:
        """Assert that the client of this exchange may have this answer.

        Args:
            exchange: the request.
            answer: what was sent for it.
            ran: what the view has made, or confirmed, for it; ``None`` when it did not run.
            confirms: whether it has answered 304, which says that what it made before is still good.
            condition: of the request.
        """
        serial = int(answer.headers.get("X-Serial", 0))
        if not serial:  # Flask's own page for an exception
            assert ran is not None
            return
        made = self.made[serial]
        reused = ran is None or serial != ran.serial or (confirms and condition != made.etag)
        what = f"{exchange} got {made}, {self.now - made.at} s old: {answer.headers}"
        if confirms and reused:  # what the view says is good for this request is as good as made for it
            assert ran is not None, what
            assert ran.serial == serial, what
        elif reused:
            self._may_have(exchange, made, what)
            self._is_fresh(made, ran, what)
        self._is_whole(exchange, answer, made, condition, what)
        repeat = (exchange.path, exchange.caller, exchange.lang)
        if exchange.method in ("GET", "HEAD"):
            self.repeats += repeat in self.seen
            self.hits += reused and repeat in self.seen
            self.confirmations += reused and confirms
            self.seen.add(repeat)
        if confirms and ran is not None:
            confirmed = made.confirmed(replace(made.exchange, control=exchange.control), self.now, ran.plan)
            if exchange.method == "GET" and self._is_stored(confirmed):
                self.made[serial] = confirmed

    def asked(self, exchange: Exchange, etag: str) -> None:
        """Assert that the view may be asked, for this request, whether what has this ETag is still good."""
        made = self.made[int(etag.strip('"'))]
        self._may_have(exchange, made, f"for {exchange} the view was asked of {made}")

    @staticmethod
    def _is_stored(made: Made) -> bool:
        """Whether an answer may be kept at all."""
        first, plan, control = made.exchange, made.plan, CONTROLS[made.plan.control]
        who, kind = first.who, first.path.split("/")[1]
        return (
            first.method == "GET"
            and first.control != "no-store"
            and (kind != "open" or who is None or (who[0] == "Authorization" and control.permits))
            and (kind != "mine" or first.caller is not None)
            and not plan.cookie
            and control.kept
            and not (control.private and kind != "mine")
            and (plan.status in STORABLE or "max-age" in plan.control)
            and "*" not in plan.vary
        )

    def _may_have(self, exchange: Exchange, made: Made, what: str) -> None:
        """Assert that what was made for another request is for this one, too, whatever its age."""
        first, plan, kind = made.exchange, made.plan, exchange.path.split("/")[1]
        assert self._is_stored(made), what
        assert exchange.method in ("GET", "HEAD"), what
        assert exchange.condition != "If-Match", what
        assert exchange.path == first.path, what
        if kind == "open":
            who = exchange.who
            assert who is None or (who[0] == "Authorization" and CONTROLS[plan.control].permits), what
        elif kind == "mine":
            assert exchange.caller == first.caller, what
        if "language" in plan.vary or plan.reads:
            assert exchange.lang == first.lang, what
        assert self.written.get(exchange.path, -1) < made.serial, what

    def _is_fresh(self, made: Made, ran: Made | None, what: str) -> None:
        control = CONTROLS[made.plan.control]
        lifetime = min(control.lifetime, ERROR_TTL) if made.plan.status >= 400 else control.lifetime
        if self.now - made.at >= lifetime:
            assert control.stale, what
            assert self.now - made.at < lifetime + STALE_IF_ERROR, what
            assert ran is not None, what
            assert ran.plan.status >= 500, what

    @staticmethod
    def _is_whole(exchange: Exchange, answer: TestResponse, made: Made, condition: str | None, what: str) -> None:
        if answer.status_code == 304:
            assert condition in (f'"{made.serial}"', "*"), what
            assert made.plan.status == 200, what
            assert answer.data == b"", what
        elif exchange.method == "HEAD":
            assert answer.data == b"", what
        elif answer.status_code == 206:
            assert exchange.ranged, what
            assert answer.data == made.body[:4], what
        else:
            assert answer.status_code == made.plan.status, what
            assert answer.data == made.body, what
            if condition is not None and made.plan.status == 200 and exchange.method == "GET":
                assert condition != f'"{made.serial}"' or exchange.condition == "If-Match", what


class World:
    """An application whose clock the test holds, its view, and the model beside it."""

    def __init__(self, *, enabled: bool = True) -> None:
        self.model = Model()
        self.plans: dict[str, Plan] = {}
        self.exchange: Exchange | None = None
        self.ran: Made | None = None
        self.confirms = False
        self.condition: str | None = None
        self.wrong: AssertionError | None = None
        self._serials = itertools.count(1)
        self._etags: dict[str, str] = {}
        app = _app()
        app.testing = True
        app.config["PROPAGATE_EXCEPTIONS"] = False
        config = {"RCACHE_ENABLED": enabled}
        store = MemoryStore(Names(), max_bytes=2**26, clock=lambda: (self.model.now + 1_000_000) * 1_000_000)
        app.extensions["rcache"] = manager = CacheManager(load_settings(config, {}), store)
        views.install(app, context.install(app, manager))
        methods = ["GET", "POST", "DELETE", "PROPFIND"]
        decorators: dict[str, Any] = {
            "open": cache_response(OPEN),
            "shared": cache_response(OPEN, shared=True),
            "mine": cache_response(MINE, None, self._caller_key),
        }
        for name, decorate in decorators.items():
            app.add_url_rule(f"/{name}/<id>", name, decorate(self.view), methods=methods)
        self.client = app.test_client(use_cookies=False)

    @staticmethod
    def _caller_key(req: Any) -> tuple[object, ...] | None:
        caller = (req.headers.get("Authorization"), req.headers.get("Cookie"))
        return None if caller == (None, None) else (*caller, req.full_path)

    def view(self, id: str) -> Any:
        """Answer as the plan says, and write it down."""
        exchange = self.exchange
        assert exchange is not None
        plan = self.plans.get(exchange.path, Plan())
        plan = replace(plan, status=503) if exchange.fails else plan
        known = self._asked_of(exchange, plan)
        if known is not None:
            self.ran, self.confirms = replace(known, plan=plan), True
            return "", 304, self._headers(known.serial, plan)
        serial = next(self._serials)
        lang = request.headers.get("Accept-Language") if plan.reads else "any language"
        body = f"{serial} for {exchange.caller} at {exchange.path} in {lang}"
        self.ran = self.model.made[serial] = Made(serial, self.model.now, exchange, plan, body.encode())
        return body, plan.status, self._headers(serial, plan)

    def _asked_of(self, exchange: Exchange, plan: Plan) -> Made | None:
        """What the view made for the same request before, if it is asked whether that is still good, and it is."""
        etag = request.headers.get("If-None-Match", "")
        known = self.model.made.get(int(etag.strip('"')) if etag[1:-1].isdecimal() else 0)
        if known is None or exchange.method not in ("GET", "HEAD"):
            return None
        if etag != self.condition:  # the cache asks, not the client
            try:
                self.model.asked(exchange, etag)
            except AssertionError as error:
                self.wrong = error
        if not plan.confirms or plan.status != 200 or known.plan.status != 200:
            return None
        first = known.exchange
        same = (first.path, first.caller, first.lang) == (exchange.path, exchange.caller, exchange.lang)
        return known if same and self.model.written.get(exchange.path, -1) < known.serial else None

    @staticmethod
    def _headers(serial: int, plan: Plan) -> dict[str, str]:
        headers = {"X-Serial": str(serial), "ETag": f'"{serial}"'}
        headers |= {"Cache-Control": plan.control} if plan.control else {}
        headers |= {"Vary": plan.vary} if plan.vary else {}
        headers |= {"Set-Cookie": f"a={serial}"} if plan.cookie else {}
        headers |= {"Location": "/elsewhere"} if plan.status == 302 else {}
        return headers

    def play(self, exchange: Exchange) -> None:
        """Send one request and have the answer judged."""
        self.model.now += exchange.wait
        if exchange.plan is not None:
            self.plans[exchange.path] = exchange.plan
        self.exchange, self.ran, self.confirms = exchange, None, False
        headers, condition = exchange.headers, None
        if exchange.condition == "If-Match":
            headers["If-Match"] = condition = self._etags.get(exchange.path, '"none"')
        elif exchange.condition:
            made_up = {"*": "*", "other": '"none"'}
            headers["If-None-Match"] = condition = made_up.get(exchange.condition) or self._etags.get(
                exchange.path, '"none"'
            )
        self.condition = condition
        answer = self.client.open(exchange.path, method=exchange.method, headers=headers)
        self._etags[exchange.path] = answer.headers.get("ETag", '"none"')
        self.model.judge(exchange, answer, self.ran, self.confirms, condition)
        if self.wrong is not None:
            raise self.wrong
        if exchange.method in ("POST", "DELETE", "PROPFIND") and answer.status_code < 400:
            self.model.written[exchange.path] = next(self._serials)


def explore(*, sequences: int = SEQUENCES, enabled: bool = True) -> tuple[int, int, int, int]:
    """Play generated sequences, each in a world of its own.

    Returns:
        The exchanges, the repeats among them, how many of those were hits, and how many were confirmed by the view.
    """
    exchanges = repeats = hits = confirmations = 0
    first = int(os.environ.get("MODEL_SEED", "1"))
    for seed in range(first, first + sequences):
        dice, world = Dice(seed), World(enabled=enabled)
        for number in range(LENGTH):
            try:
                world.play(dice.exchange())
            except AssertionError as error:
                error.add_note(f"seed {seed}, exchange {number}")
                raise
        exchanges, repeats, hits = exchanges + LENGTH, repeats + world.model.repeats, hits + world.model.hits
        confirmations += world.model.confirmations
    return exchanges, repeats, hits, confirmations


def check_hits(repeats: int, hits: int) -> None:
    """A cache that is there to be used: at least a quarter of the repeated requests are hits."""
    assert hits >= repeats / 4, f"{hits} hits among {repeats} repeats"


@pytest.mark.timeout(300)
def test_model__ten_thousand_exchanges() -> None:
    """Nobody gets what he may not have, and at least a quarter of the repeats are hits."""
    exchanges, repeats, hits, confirmations = explore()
    print(f"{exchanges} exchanges, {repeats} repeats, {hits} hits ({100 * hits / repeats:.0f} %), {confirmations} 304s")
    assert exchanges >= 10_000
    assert confirmations >= 50
    assert repeats >= exchanges / 4
    check_hits(repeats, hits)


# The test of the test


def test_model__a_cache_that_never_stores_fails() -> None:
    """Safety alone is not enough."""
    _, repeats, hits, _ = explore(sequences=5, enabled=False)
    assert (repeats > 100, hits) == (True, 0)
    with pytest.raises(AssertionError, match="0 hits among"):
        check_hits(repeats, hits)


def _without(name: str) -> Callable[[Any], Any]:
    """`by_name` blind to one field."""
    by_name: Any = vars(storable)["by_name"]
    return lambda headers: {key: lines for key, lines in by_name(headers).items() if key != name}


def _directives(**changes: Any) -> Callable[[Any], Any]:
    """Cache-Control read with some directives as if they were not there."""
    parse: Any = vars(targeted)["parse_cache_control"]

    def parsed(lines: Any) -> Any:
        control = parse(lines)
        return type(control)(**{name: changes.get(name, getattr(control, name)) for name in control.__slots__})

    return parsed


def _sabotages() -> Iterator[tuple[str, object, str, Any]]:
    yield (
        "request no-store",
        bound,
        "request_facts",
        lambda *args, **more: request_facts(*args, **more)._replace(no_store=False),
    )
    yield "query", bound, "filtered_query", lambda query, names: ""
    yield (
        "authorization",
        bound,
        "request_verdict",
        lambda environ, session, **_: None if environ["REQUEST_METHOD"] in ("GET", "HEAD") else "METHOD",
    )
    yield "sessions", bound, "session_identifies", lambda session: False
    yield "vary", commit, "normalise_vary", lambda lines: ()
    yield "set-cookie", storable, "by_name", _without("set-cookie")
    yield "no-store", targeted, "parse_cache_control", _directives(no_store=False)
    yield "no-cache", targeted, "parse_cache_control", _directives(no_cache=False)
    yield "private", targeted, "parse_cache_control", _directives(private=False)
    yield "max-age", targeted, "parse_cache_control", _directives(max_age=None)
    yield "s-maxage", targeted, "parse_cache_control", _directives(s_maxage=None)
    yield "must-revalidate", storable, "_window", lambda status, stated, configured, policy, must: configured
    yield "writes", unsafe, "unsafe_targets", lambda *args, **kwargs: ()
    yield "header of a 304", commit, "freshened", lambda stored, answer: stored
    yield "permission", exchange.Exchange, "_is_permitted", lambda self, entry: True
    yield "statuses", storable, "STORABLE", frozenset(range(200, 600))
    yield "error ttl", storable, "_ttl", lambda status, lifetime, age, policy: min(policy.ttl, lifetime or policy.ttl)
    yield (
        "partial",
        reply,
        "evaluate",
        lambda environ, status, headers, *, body_length: reply_evaluate(
            {**environ, "HTTP_IF_NONE_MATCH": "*"}, status, headers, body_length=body_length
        ),
    )


reply_evaluate: Any = vars(reply)["evaluate"]
SABOTAGES = list(_sabotages())


@pytest.mark.long
@pytest.mark.parametrize(
    ("module", "name", "wrong"), [each[1:] for each in SABOTAGES], ids=[each[0] for each in SABOTAGES]
)
def test_model__notices_a_rule_that_is_missing(monkeypatch, module, name, wrong) -> None:
    """With one rule taken away the model finds an answer that somebody may not have."""
    monkeypatch.setattr(module, name, wrong)
    monkeypatch.setattr(storable, "_known", vars(storable)["_judged"])  # what was judged with the rule does not count
    with pytest.raises(AssertionError):
        explore(sequences=2 * SEQUENCES)
