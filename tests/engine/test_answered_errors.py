"""`errors=`: exceptions that are answers, in memory, with the memory tier and in Redis."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, request
from sqlalchemy.exc import NoResultFound
from werkzeug.exceptions import NotFound, TooManyRequests

from flask_rcache import CacheType, ConfigError, EncodeError, RCache, cached, current_cache
from flask_rcache.codec import Errors
from flask_rcache.codec.raised import is_raised
from flask_rcache.codec.values import ValueCodec
from flask_rcache.errors import DecodeError
from tests.servers import Server
from tests.views.kit import TIERED, make_app, manager

LAMP = CacheType("lamp", ttl=60, stale_while_revalidate=60, stale_if_error=600)


class MissingLampError(LookupError):
    """Takes something else than what its `args` are."""

    def __init__(self, number: int) -> None:
        super().__init__(f"no lamp {number}")
        self.number = number


class SlottedError(Exception):
    """Holds what is neither in `args` nor an attribute of its dict."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        super().__init__("slotted")
        self.number = number


class Failing:
    """A loader that raises what it is given, and counts."""

    def __init__(self, *errors: Exception | None) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        error = self.errors[min(self.calls, len(self.errors)) - 1]
        if error is not None:
            raise error
        return "lamp"


@pytest.fixture(params=["memory", "tiered", "redis"])
def url(request: pytest.FixtureRequest) -> str:
    """Each kind of store."""
    if request.param == "memory":
        return "memory://"
    server: Server = request.getfixturevalue("redis_server")
    return server.url + (TIERED if request.param == "tiered" else "")


@pytest.fixture
def flask_app(url: str) -> Iterator[Flask]:
    """An app whose context is pushed."""
    made = make_app(url, types=[LAMP], RCACHE_STRICT=False)
    with made.app_context():
        yield made
    manager(made).close()


def raised(act: Callable[[], object]) -> Exception:
    """What an act raises."""
    with pytest.raises(Exception) as caught:  # noqa: PT011  # the test looks at it
        act()
    error: Exception = caught.value
    return error


def same(first: Exception, second: Exception) -> bool:
    """Whether two exceptions are two objects, and equal."""
    parts = [(type(each), each.args, each.__dict__, str(each)) for each in (first, second)]
    return first is not second and parts[0] == parts[1]


@pytest.mark.parametrize(
    "error",
    [
        KeyError("lamp"),
        MissingLampError(7),
        NotFound("no such lamp"),
        NotFound(description="no such lamp"),
        TooManyRequests(retry_after=30),
        NoResultFound("No row was found when one was required"),
        FileNotFoundError(2, "No such file", "lamp.json"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors__are_raised_again_exactly(flask_app: Flask, error: Exception) -> None:
    """An exception that is named is raised on a hit, with its class, args and attributes, as an object of its own."""
    loader = Failing(error)

    def fetch() -> str:
        return current_cache.fetch(LAMP, "lamp", loader, errors={type(error): 30})

    assert raised(fetch) is error
    again = [raised(fetch), raised(fetch)]
    assert all(same(error, each) for each in again)
    assert again[0] is not again[1]
    assert loader.calls == 1
    for name in ("errno", "filename", "code", "description", "number"):
        assert getattr(again[0], name, None) == getattr(error, name, None)


def test_errors__hold_in_every_process(redis_server: Server) -> None:
    """Another application on the same Redis raises it, and does not load."""
    first, second = make_app(redis_server.url), make_app(redis_server.url)
    loader = Failing(NotFound("no such lamp"))
    found = []
    for app in (first, second):
        with app.app_context():
            found.append(raised(lambda: current_cache.fetch(LAMP, "lamp", loader, errors={NotFound: 30})))
        manager(app).close()
    assert loader.calls == 1
    assert same(*found)


def test_errors__subclasses_count_as_the_nearest_class(flask_app: Flask) -> None:
    """A KeyError is kept as long as LookupError says, where that is nearest."""
    loader = Failing(KeyError("lamp"))
    errors: dict[type[Exception], float | timedelta] = {Exception: 5, LookupError: timedelta(minutes=2)}
    for _ in range(2):
        error = raised(lambda: current_cache.fetch(LAMP, "lamp", loader, errors=errors))
        assert type(error) is KeyError
    assert loader.calls == 1
    (listed,) = current_cache.entries(LAMP)
    assert 115 < listed.ttl <= 120


def test_errors__others_are_never_stored(flask_app: Flask) -> None:
    """What is not named is raised, and loaded at the next call."""
    loader = Failing(ValueError("down"), None)
    assert str(raised(lambda: current_cache.fetch(LAMP, "lamp", loader, errors={NotFound: 30}))) == "down"
    assert current_cache.fetch(LAMP, "lamp", loader, errors={NotFound: 30}) == "lamp"


def test_errors__are_no_answer_to_a_call_that_does_not_name_them(flask_app: Flask, caplog: Any) -> None:
    """A call without errors=, or with others, loads; get has nothing; nothing is said about garbage."""
    missing = Failing(NotFound("none"))
    raised(lambda: current_cache.fetch(LAMP, "lamp", missing, errors={NotFound: 30}))
    assert current_cache.get(LAMP, "lamp") is None
    assert current_cache.get_many(LAMP, ["lamp"]) == {}
    assert current_cache.fetch(LAMP, "lamp", lambda: "other", errors={KeyError: 30}) == "other"
    raised(lambda: current_cache.fetch(LAMP, "second", missing, errors={NotFound: 30}))
    assert current_cache.fetch(LAMP, "second", lambda: "plain") == "plain"
    assert current_cache.fetch_many(LAMP, ["second"], lambda keys: {}) == {"second": "plain"}
    assert not caplog.records


def test_errors__tags_invalidate_them(flask_app: Flask) -> None:
    """Those of the call, of the type and of what the loader has read, as for values."""

    def inner() -> str:
        current_cache.tag("inner")
        return "x"

    def loader() -> str:
        loads.append(1)
        current_cache.fetch(LAMP, "inner", inner)
        raise NotFound("none")

    loads: list[int] = []

    def fetch() -> Exception:
        return raised(lambda: current_cache.fetch(LAMP, "lamp", loader, tags=["shop"], errors={NotFound: 30}))

    for act in (
        lambda: current_cache.invalidate_tags("shop"),
        lambda: current_cache.invalidate_tags("inner"),
        lambda: current_cache.invalidate_type(LAMP),
        lambda: current_cache.delete(LAMP, "lamp"),
    ):
        before = len(loads)
        for _ in range(2):
            fetch()
        assert len(loads) == before + 1
        act()


def test_errors__are_shared_with_those_who_wait(flask_app: Flask) -> None:
    """One load for four threads, and each raises an exception of its own."""
    began, go = threading.Event(), threading.Event()
    calls: list[int] = []
    results: list[Exception] = []

    def loader() -> str:
        calls.append(1)
        began.set()
        assert go.wait(20)
        raise MissingLampError(7)

    def fetch() -> None:
        with flask_app.app_context():
            results.append(raised(lambda: current_cache.fetch(LAMP, "lamp", loader, errors={LookupError: 30})))

    threads = [threading.Thread(target=fetch, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert began.wait(20)
    go.set()
    for thread in threads:
        thread.join(40)
    assert len(calls) == 1
    assert [type(each) for each in results] == [MissingLampError] * 4
    assert len({id(each) for each in results}) == 4


def test_errors__replace_what_stale_if_error_would_serve(url: str) -> None:
    """An answer is served, not an older value in its place; a failure still is replaced by the older value."""
    app = make_app(url, RCACHE_L1_TTL=0, RCACHE_STRICT=False)
    kind = CacheType("short", ttl=60, stale_if_error=600)
    with app.app_context():
        loader = Failing(None, NotFound("gone"), ValueError("down"))
        fetch = cached(kind, ttl=60, key_func=lambda: "lamp", errors={NotFound: 30})(loader.__call__)
        assert fetch() == "lamp"
        assert type(raised(fetch.refresh)) is NotFound
        assert type(raised(fetch)) is NotFound
        assert loader.calls == 2
        assert str(raised(fetch.refresh)) == "down"
        assert type(raised(fetch)) is NotFound, "a refresh that fails leaves what is cached"
    manager(app).close()


def test_errors__keep_is_asked_about_results_only(flask_app: Flask) -> None:
    """A function of the result never gets an exception."""
    loader = Failing(NotFound("none"))

    def keep(rows: str) -> bool:
        return len(rows) > 0

    for _ in range(2):
        raised(lambda: current_cache.fetch(LAMP, "lamp", loader, keep=keep, errors={NotFound: 30}))
    assert loader.calls == 1


def test_errors__what_cannot_be_restored_is_not_stored(flask_app: Flask, caplog: Any) -> None:
    """An exception that holds a response, or state in slots, is loaded at each call, with one warning that says so."""
    for number, error in enumerate((NotFound(response=Response("x")), SlottedError(7))):
        caplog.clear()
        loader = Failing(error)
        for _ in range(2):
            with pytest.raises(type(error)) as found:
                current_cache.fetch(LAMP, number, loader, errors={type(error): 30})
            assert found.value is error
        assert loader.calls == 2
        (record,) = [each for each in caplog.records if each.levelno == logging.WARNING]
        assert "can't be raised again exactly" in record.getMessage()
        assert "leave it out of errors=" in record.getMessage()


def test_errors__strict_raises_what_cannot_be_restored() -> None:
    """Under RCACHE_STRICT the error names the exception, which is its cause."""
    app = make_app(RCACHE_STRICT=True)
    error = SlottedError(7)
    with app.app_context(), pytest.raises(EncodeError, match="SlottedError") as caught:
        current_cache.fetch(LAMP, "lamp", Failing(error), errors={SlottedError: 30})
    assert caught.value.__cause__ is error
    manager(app).close()


def test_errors__of_async_loaders(flask_app: Flask) -> None:
    """`afetch` and async functions raise it again as well."""
    calls: list[int] = []

    @cached(LAMP, errors={MissingLampError: 30})
    async def lamp(number: int) -> str:
        calls.append(number)
        raise MissingLampError(number)

    for _ in range(2):
        error = raised(lambda: asyncio.run(lamp(7)))
        assert isinstance(error, MissingLampError)
        assert error.number == 7
    assert calls == [7]


def test_errors__of_a_function_that_reads_the_request_are_not_stored(flask_app: Flask, caplog: Any) -> None:
    """What was raised for one request is no answer to another."""

    @cached(LAMP, errors={NotFound: 30})
    def lamp() -> str:
        raise NotFound(f"no lamp for {request.headers['X-User']}")

    found = []
    for user in ("ann", "bob"):
        with flask_app.test_request_context(headers={"X-User": user}):
            found.append(str(raised(lamp)))
    assert ["ann" in found[0], "bob" in found[1]] == [True, True]
    assert "it reads" in caplog.text


@pytest.mark.parametrize(
    ("errors", "message"),
    [
        ([NotFound], "must be a dict of seconds by class"),
        ({404: 30}, "takes classes of exceptions"),
        ({KeyboardInterrupt: 30}, "takes classes of exceptions"),
        ({NotFound: 0}, "leave the class out"),
        ({NotFound: "30"}, r"errors\[NotFound\] must be a number of seconds"),
        ({NotFound: float("nan")}, r"errors\[NotFound\] must be a finite number"),
    ],
)
def test_errors__that_cannot_be_used_are_refused(errors: Any, message: str) -> None:
    """At decoration and at the call, with what to write instead."""
    with pytest.raises(ConfigError, match=message):
        cached(LAMP, errors=errors)
    app = Flask("app")
    RCache(app)
    with app.app_context(), pytest.raises(ConfigError, match=message):
        current_cache.fetch(LAMP, "lamp", lambda: 1, errors=errors)


def test_decode__makes_classes_that_are_named_and_no_others(tmp_path: Path) -> None:
    """Bytes of whoever can write to the store make no other class, run no `__init__`, and are garbage when they lie."""
    codec, errors = ValueCodec(), Errors({LookupError: 30})
    content = errors.encode(codec, MissingLampError(7))
    assert is_raised(content)
    with pytest.raises(DecodeError):
        codec.decode(content)
    assert Errors({ValueError: 30}).decode(codec, content) is None

    def forged(*parts: Any) -> bytes:
        return b"\xc1" + codec.encode(list(parts))

    assert errors.decode(codec, forged("builtins:SystemExit", (), (), {})) is None
    assert errors.decode(codec, forged("os:system", ("true",), (), {})) is None
    for garbage in (
        b"\xc1",
        forged("builtins:KeyError"),
        forged(["builtins:KeyError"], (), (), {}),
        forged("builtins:KeyError", 7, (), {}),
        forged("builtins:KeyError", (), (), [1]),
    ):
        with pytest.raises(DecodeError):
            errors.decode(codec, garbage)
