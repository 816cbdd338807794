"""What is checked when an app is first used: the types of its views, the settings that name types, several workers."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import click.testing
import pytest
from flask import Flask, request_started

from flask_rcache import (
    CacheManager,
    CacheType,
    ConfigError,
    RCache,
    UnknownTypeError,
    cache_response,
    cached,
    current_cache,
)

WEATHER = CacheType("weather", ttl=1800)

NewApp = Callable[..., Flask]


@pytest.fixture
def new_app() -> Iterator[NewApp]:
    """`new_app(*cache_types, types=(), ttl=None, **config)`: an application with a view for each type that is given."""
    made: list[Flask] = []

    def make(*cache_types: CacheType | str, types: Any = (), ttl: Any = None, **config: Any) -> Flask:
        app = Flask("shop")
        app.config.update({"TESTING": True, "TRUSTED_HOSTS": ["localhost"], **config})
        RCache(app, types=types)
        for number, cache_type in enumerate(cache_types):
            app.add_url_rule(f"/{number}", f"view{number}", cache_response(cache_type, ttl)(page))
        made.append(app)
        return app

    yield make
    for app in made:
        manager(app).close()


def page() -> str:
    """A view."""
    return "page"


def manager(app: Flask) -> CacheManager:
    """The manager of an application."""
    found: CacheManager = app.extensions["rcache"]
    return found


def ask(app: Flask, **environ: Any) -> str:
    """The text of the first view."""
    return app.test_client().get("/0", environ_overrides=environ).text


def command(app: Flask) -> click.testing.Result:
    """The result of a command of the app's own."""
    app.cli.command("nothing")(lambda: None)
    return app.test_cli_runner().invoke(args=["nothing"])


# Names


def test_name__means_the_type_and_not_what_a_view_made_of_it(new_app: NewApp) -> None:
    """A view's `.replace()` is policy of that view, whichever view comes first."""
    app = new_app(WEATHER.replace(ttl=5), WEATHER, "weather", CacheType.SEARCH.replace(ttl=1))
    assert ask(app) == "page"
    assert manager(app).types["weather"] is WEATHER
    assert manager(app).types["search"] is CacheType.SEARCH


def test_name__of_a_type_that_only_a_view_has(new_app: NewApp) -> None:
    """It may be used in a context that comes before the first request, also when its view was added after another."""
    app = new_app("dashboard")
    with app.app_context():
        assert current_cache.types.get("weather") is None
    app.add_url_rule("/late", "late", cache_response(WEATHER.replace(ttl=1))(page))
    with app.app_context():
        assert current_cache.invalidate_type("weather") == 0
        assert current_cache.types["weather"] is WEATHER


def test_name__misspelt(new_app: NewApp) -> None:
    """No request is answered and no command runs, however often it is tried; the known names are listed."""
    app = new_app("dashboard", "wheather", types=[WEATHER])
    for _ in range(2):
        with pytest.raises(UnknownTypeError, match=r"view1.*wheather.*dashboard.*weather"):
            ask(app)
        assert isinstance(command(app).exception, UnknownTypeError)


def test_name__misspelt_in_production(new_app: NewApp, caplog: pytest.LogCaptureFixture) -> None:
    """The answer is a 500, and the log has the reason."""
    app = new_app("dashboard", "wheather", TESTING=False)
    assert app.test_client().get("/0").status_code == 500
    assert "unknown cache type 'wheather'" in caplog.text


def test_name__not_checked_while_an_app_is_made(new_app: NewApp) -> None:
    """A factory that uses a context before the views are there is left alone, in a command too."""
    made: list[Flask] = []

    def create_app() -> Flask:
        app = new_app(RCACHE_TTL_WEATHER=5)
        with app.app_context():
            current_cache.set("query", "a", 1)
        app.add_url_rule("/0", "late", cache_response(WEATHER)(page))
        made.append(app)
        return app

    runner = click.testing.CliRunner()
    from flask.cli import FlaskGroup

    group = FlaskGroup(create_app=create_app)
    result = runner.invoke(group, ["cache", "types", "--json"])
    assert result.exit_code == 0, result.output
    assert '"weather"' in result.output
    assert ask(made[0]) == "page"


@pytest.mark.parametrize("types", [(), (CacheType("rain"),)], ids=["found", "registered"])
def test_name__two_types_of_one_name(new_app: NewApp, types: Any) -> None:
    """Two views with different ones: which would the name mean? Beside a registered one they are the views' own."""
    app = new_app(CacheType("rain", ttl=1), CacheType("rain", ttl=2), types=types)
    if types:
        assert ask(app) == "page"
        assert manager(app).types["rain"] is types[0]
    else:
        with pytest.raises(ConfigError, match=r"view0.*view1.*'rain'"):
            ask(app)


def test_types__registered_twice(new_app: NewApp) -> None:
    """Two different ones are refused at once, also beside a built-in one."""
    assert new_app(types=[WEATHER, CacheType("weather", ttl=1800)])
    for other in (CacheType("weather", ttl=1), CacheType("search", ttl=1)):
        with pytest.raises(ConfigError, match="registered twice"):
            new_app(types=[WEATHER, other])


# Settings


def test_ttl_setting__of_no_type(new_app: NewApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """In app.config an error, in the environment a warning; both name the nearest, and both wait for the views."""
    app = new_app("product", RCACHE_TTL_PRODUCTS=5)
    with pytest.raises(ConfigError, match=r"RCACHE_TTL_PRODUCTS in app.config.*did you mean RCACHE_TTL_PRODUCT\b"):
        ask(app)
    assert isinstance(command(app).exception, ConfigError)
    assert ask(new_app(WEATHER, RCACHE_TTL_WEATHER=5)) == "page"
    monkeypatch.setenv("RCACHE_TTL_PRODUCTS", "5")
    with pytest.warns(UserWarning, match=r"variable RCACHE_TTL_PRODUCTS.*RCACHE_TTL_PRODUCT\b"):
        assert ask(new_app("product")) == "page"


def test_ttl_setting__under_another_librarys_name(new_app: NewApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """CACHE_TTL_… may be anybody's."""
    monkeypatch.setenv("CACHE_TTL_SESSIONS", "5")
    assert ask(new_app("product")) == "page"


def test_ttl_setting__that_a_decorator_overrides(new_app: NewApp, caplog: pytest.LogCaptureFixture) -> None:
    """The decorator wins; one line says so, with both."""
    app = new_app("product", ttl=60, RCACHE_TTL_PRODUCT=5)
    for _ in range(2):
        ask(app)
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "RCACHE_TTL_PRODUCT in app.config is 5 s" in record.getMessage()
    assert "'view0'" in record.getMessage()
    assert "60 s" in record.getMessage()
    caplog.clear()
    ask(new_app("product", ttl=60, RCACHE_TTL_PRODUCT=60))
    ask(new_app("product", RCACHE_TTL_PRODUCT=5))
    ask(new_app("product", ttl=60, RCACHE_TTL_SEARCH=5))
    assert caplog.records == []


# Decorators


def test_decorator__above_a_route(new_app: NewApp, caplog: pytest.LogCaptureFixture) -> None:
    """The route has registered the plain function: a warning names it, once."""
    app = new_app("product")

    @cache_response("product")
    @app.get("/wrong")
    def wrong() -> str:
        return "never cached"

    @cached()
    @app.get("/wrong-too")
    def wrong_too() -> str:
        return "never cached"

    for _ in range(2):
        ask(app)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert "wrong is not cached: its @cache_response stands above the route" in messages[0]
    assert "wrong_too is not cached: its @cached stands above the route" in messages[1]


# Workers


def test_workers__in_memory(new_app: NewApp, caplog: pytest.LogCaptureFixture) -> None:
    """Several processes and no URL: one warning that names the setting."""
    app = new_app("product")
    for _ in range(3):
        ask(app, **{"wsgi.multiprocess": True})
    (record,) = caplog.records
    assert "RCACHE_URL" in record.getMessage()
    caplog.clear()
    ask(new_app("product"), **{"wsgi.multiprocess": False})
    ask(new_app("product", RCACHE_URL="redis://127.0.0.1:1", RCACHE_ENABLED=False), **{"wsgi.multiprocess": True})
    assert [record for record in caplog.records if "RCACHE_URL" in record.getMessage()] == []


def test_startup__costs_nothing_later(new_app: NewApp) -> None:
    """After the first request nothing is called any more."""
    app = new_app("product")
    assert len(list(request_started.receivers_for(app))) == 1
    ask(app)
    assert list(request_started.receivers_for(app)) == []


_UNWATCHED = """
from flask import Flask
from flask_rcache import AUTO, CacheType, RCache, cache_response, cached, current_cache
app = Flask("shop")
RCache(app)

@app.get("/")
@cache_response(CacheType.PRODUCT, tags=AUTO)
def page():
    return "page"

@cached(CacheType.PRODUCT, tags=AUTO)
def rows():
    return ["row"]

client = app.test_client()
print({client.get("/").headers["X-Cache"] for _ in range(3)})
with app.app_context():
    rows(), rows(), current_cache.fetch("product", "k", lambda: 1, tags=AUTO)
    print(len(list(current_cache.entries())))
"""


def test_auto__without_a_watched_database() -> None:
    """What it depends on would not be seen: nothing is stored, and the log says at once what is missing."""
    found = subprocess.run([sys.executable, "-c", _UNWATCHED], capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout.splitlines() == ["{'MISS'}", "0"]
    assert "answers of __main__:page are not stored. Make an SQLCache of the engine" in found.stderr
    assert "results of __main__:rows are not stored" in found.stderr
