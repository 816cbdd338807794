"""Settings: where each comes from, and what is said of those that cannot be."""

from __future__ import annotations

import traceback
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask

from flask_rcache import RCache
from flask_rcache.config.redaction import redacted
from flask_rcache.config.settings import SETTINGS, Settings, load_settings
from flask_rcache.errors import ConfigError


def test_load_settings__defaults() -> None:
    """Nothing configured: memory, enabled, strict in tests only."""
    settings = load_settings({}, {})
    assert (settings.url, settings.prefix, settings.enabled, settings.strict) == ("memory://", "cache", True, False)
    assert (settings.ttl_default, settings.timeout, settings.lease) == (300, 0.25, 5)
    assert load_settings({}, {}, testing=True).strict is True
    assert load_settings({"RCACHE_STRICT": False}, {}, testing=True).strict is False


def test_load_settings__config_before_environment_before_alias() -> None:
    """The nearer word counts."""
    environ = {"RCACHE_PREFIX": "env", "RCACHE_URL": "redis://env:1", "REDIS_URL": "redis://alias:1"}
    settings = load_settings({"RCACHE_PREFIX": "config"}, environ)
    assert (settings.prefix, settings.url) == ("config", "redis://env:1")
    assert load_settings({}, {"REDIS_URL": "redis://alias:1"}).url == "redis://alias:1"
    assert load_settings({"REDIS_URL": "redis://c:1"}, {"REDIS_URL": "redis://e:1"}).url == "redis://c:1"
    assert load_settings({"RCACHE_URL": None}, {"RCACHE_URL": "redis://e:1"}).url == "redis://e:1"
    assert load_settings({}, {"CACHE_ENABLED": "false"}).enabled is False
    assert load_settings({}, {"CACHE_ENABLED": "false", "RCACHE_ENABLED": "1"}).enabled is True


def test_load_settings__text_of_the_environment() -> None:
    """Numbers, booleans and lists from text."""
    environ = {
        "RCACHE_ENABLED": "OFF",
        "RCACHE_TIMEOUT": "0.5",
        "RCACHE_MAX_BYTES": "1000",
        "RCACHE_CREDENTIAL_COOKIES": "a, b,",
        "RCACHE_STRICT": "yes",
    }
    settings = load_settings({}, environ)
    assert (settings.enabled, settings.timeout, settings.max_bytes, settings.strict) == (False, 0.5, 1000, True)
    assert settings.credential_cookies == ("remember_token", "access_token_cookie", "a", "b")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("RCACHE_ENABLED", "maybe"),
        ("RCACHE_TIMEOUT", 0),
        ("RCACHE_TIMEOUT", "soon"),
        ("RCACHE_TIMEOUT", True),
        pytest.param("RCACHE_TIMEOUT", 10**400, id="huge"),
        ("RCACHE_LEASE", -1),
        ("RCACHE_LEASE", float("nan")),
        ("RCACHE_LOAD_TIMEOUT", float("inf")),
        ("RCACHE_MAX_BYTES", 1.5),
        ("RCACHE_MAX_BYTES", -1),
        ("RCACHE_MAX_BYTES", "many"),
        ("RCACHE_COMPRESS_LEVEL", 0),
        ("RCACHE_COMPRESS_LEVEL", 23),
        ("RCACHE_PREFIX", "a:b"),
        ("RCACHE_PREFIX", ""),
        ("RCACHE_URL", "http://x"),
        ("RCACHE_URL", "localhost:6379"),
        ("RCACHE_URL", "redis:h"),
        ("RCACHE_URL", "redis://[bad"),
        ("RCACHE_URL", "redis://h:99999/0"),
        ("RCACHE_URL", "redis://h:abc/0"),
        ("RCACHE_URL", 7),
        ("RCACHE_TTL_DEFAULT", 0),
        ("RCACHE_TTL_DASHBOARD", "long"),
        ("RCACHE_TTL_DASHBOARD", -5),
        ("RCACHE_CREDENTIAL_COOKIES", 7),
        ("RCACHE_ALLOW_REFRESH", "yes"),
        ("RCACHE_MAX_STAMPS", 0),
        ("RCACHE_MAX_CONNECTIONS", "0"),
        ("RCACHE_IDLE_TIMEOUT", "0"),
        ("RCACHE_IDLE_TIMEOUT", timedelta(0)),
        ("RCACHE_L1_TTL", timedelta(seconds=-1)),
        ("RCACHE_ADMIN_JWT_LEEWAY", timedelta(hours=1)),
        ("RCACHE_ON_FAILOVER", "hot"),
        ("RCACHE_METRICS", "statsd"),
    ],
)
def test_load_settings__refuses(key: str, value: object) -> None:
    """The message names the key and where it was found."""
    with pytest.raises(ConfigError, match=key):
        load_settings({key: value}, {})
    if isinstance(value, str) and value:
        with pytest.raises(ConfigError, match=key):
            load_settings({}, {key: value})


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("RCACHE_ENABLE", "RCACHE_ENABLED"), ("RCACHE_TIMEOUTS", "RCACHE_TIMEOUT"), ("RCACHE_REDIS_URL", "RCACHE_URL")],
)
def test_load_settings__unknown_keys(wrong: str, right: str) -> None:
    """In app.config an error, in the environment a warning; both name the nearest known one."""
    with pytest.raises(ConfigError, match=f"{wrong}.*{right}"):
        load_settings({wrong: 1}, {})
    with pytest.warns(UserWarning, match=f"{wrong}.*{right}"):
        load_settings({}, {wrong: "1"})
    load_settings({"CACHE_TYPE": "x", "REDIS_FOO": 1, 7: 8}, {})  # type: ignore[dict-item]


def test_load_settings__ttls_by_type() -> None:
    """RCACHE_TTL_<NAME> of the config, its alias, then of the environment."""
    environ = {
        "RCACHE_TTL_A": "1",
        "CACHE_TTL_A": "2",
        "CACHE_TTL_B": "3",
        "RCACHE_TTL_C": "4",
        "CACHE_TTL_DEFAULT": "9",
    }
    settings = load_settings({"RCACHE_TTL_C": 5, "CACHE_TTL_A": 6}, environ)
    assert settings.ttls == {"a": 6.0, "b": 3.0, "c": 5.0}
    assert settings.ttl_default == 9.0
    assert load_settings({}, environ).ttls["a"] == 1.0
    sources = {name: str(source) for name, source in settings.ttl_sources.items()}
    assert sources == {
        "a": "CACHE_TTL_A in app.config",
        "b": "the environment variable CACHE_TTL_B",
        "c": "RCACHE_TTL_C in app.config",
    }


def test_load_settings__durations_may_be_timedeltas() -> None:
    """Wherever seconds are taken."""
    two = timedelta(minutes=2)
    config = {
        f"RCACHE_{name}": two
        for name in ("TTL_DEFAULT", "TTL_PRODUCT", "L1_TTL", "OUTAGE_TTL", "IDLE_TIMEOUT", "ADMIN_JWT_LEEWAY", "LEASE")
    }
    settings = load_settings(config, {})
    durations = (settings.ttl_default, settings.l1_ttl, settings.outage_ttl, settings.idle_timeout, settings.lease)
    assert (*durations, settings.admin_jwt_leeway, settings.ttls["product"]) == (120.0,) * 7


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({"REDIS_HOST": "db"}, "redis://db:6379/0"),
        ({"REDIS_HOST": "db", "REDIS_PORT": "6380"}, "redis://db:6380/0"),
        ({"REDIS_HOST": "db", "REDIS_PORT": "tcp://10.0.0.1:6381"}, "redis://db:6381/0"),
        ({"REDIS_HOST": "tcp://10.0.0.1:6379", "REDIS_PORT": "tcp://10.0.0.1:6379"}, "redis://10.0.0.1:6379/0"),
        ({"REDIS_HOST": "::1"}, "redis://[::1]:6379/0"),
        ({"REDIS_HOST": "[::1]", "REDIS_PORT": "1"}, "redis://[::1]:1/0"),
        ({"REDIS_HOST": "db", "REDIS_URL": "redis://url:1"}, "redis://url:1"),
        ({"REDIS_PORT": "tcp://10.0.0.1:6379"}, "memory://"),
        ({"REDIS_HOST": ""}, "memory://"),
        ({"REDIS_URL": ""}, "memory://"),
    ],
)
def test_load_settings__host_and_port(environ: dict[str, str], url: str) -> None:
    """REDIS_HOST and REDIS_PORT, also in the form that Kubernetes injects."""
    assert load_settings({}, environ).url == url
    assert load_settings(environ, {}).url == url


@pytest.mark.parametrize(
    "port", ["0", "70000", "x", "-1", "6379/0", "tcp://h:abc", "tcp://h:99999", "\u00b2"], ids=ascii
)
def test_load_settings__ports_refused(port: str) -> None:
    """Not a port."""
    with pytest.raises(ConfigError, match="REDIS_PORT"):
        load_settings({}, {"REDIS_HOST": "db", "REDIS_PORT": port})


@pytest.mark.parametrize("host", ["db:6380", "[bad", "redis://[bad"])
def test_load_settings__hosts_refused(host: str) -> None:
    """Not a name nor an address; a port has a setting of its own."""
    with pytest.raises(ConfigError, match="REDIS_HOST"):
        load_settings({}, {"REDIS_HOST": host})


@pytest.mark.parametrize("name", ["RCACHE_TTL_DASHBOARD", "CACHE_TTL_DASHBOARD"])
def test_load_settings__an_empty_variable_is_not_set(name: str) -> None:
    """A deployment that leaves a variable empty means no setting, as with every other."""
    assert load_settings({}, {name: ""}).ttls == {}


@pytest.mark.parametrize("value", [",", " "])
def test_load_settings__a_blank_audience_switches_no_check_off(value: str) -> None:
    """A template whose variable was empty would let every audience in."""
    with pytest.raises(ConfigError, match="RCACHE_ADMIN_JWT_AUDIENCE"):
        load_settings({}, {"RCACHE_ADMIN_JWT_AUDIENCE": value})


def test_load_settings__credentials_are_added_to() -> None:
    """Naming a cookie or a field of one's own takes none of those away that always count."""
    plain = load_settings({}, {})
    names = {"CREDENTIAL_COOKIES": ["lang"], "CREDENTIAL_HEADERS": ["X-Who"], "IDENTITY_G": ["tenant"]}
    more = load_settings({f"RCACHE_{key}": added for key, added in names.items()}, {})
    assert {"_login_user", "tenant"} <= set(more.identity_g)
    assert more.credential_cookies == (*plain.credential_cookies, "lang")
    assert more.credential_headers == (*plain.credential_headers, "X-Who")
    assert load_settings({"RCACHE_CREDENTIAL_HEADERS": "X-Api-Key"}, {}).credential_headers == plain.credential_headers


@pytest.mark.parametrize(("key", "value"), [("RCACHE_TIMEOUT", "0"), ("RCACHE_L1_TTL", "-1")])
def test_load_settings__the_remedy_fits(key: str, value: str) -> None:
    """What is said of a setting is not about a decorator."""
    with pytest.raises(ConfigError, match="seconds") as raised:
        load_settings({}, {key: value})
    assert "decorator" not in str(raised.value)


def test_settings__are_frozen() -> None:
    """Read once, in init_app: what is changed later is not looked at."""
    with pytest.raises(AttributeError, match="init_app"):
        Settings().url = "x"
    with pytest.raises(TypeError, match="urls"):
        Settings(urls="x")
    app = Flask("app")
    app.config["RCACHE_PREFIX"] = "one"
    RCache(app)
    app.config["RCACHE_PREFIX"] = "two"
    assert app.extensions["rcache"].settings.prefix == "one"


def test_settings__every_field_is_a_key_with_help() -> None:
    """Each is read from its key and says what it means."""
    assert len(SETTINGS) > 30
    for name, setting in SETTINGS.items():
        assert setting.help.endswith("."), name
        assert callable(setting.parse)
        assert getattr(Settings(), name) == setting.default


@pytest.mark.parametrize(
    "url",
    [
        "redis://:s3cr3t@db:6379/1",
        "redis://app:s3cr3t@db:6379",
        "rediss://app:s3cr3t@db?ssl_ca_certs=x",
        "unix://:s3cr3t@/run/redis.sock?db=1",
        "redis://db:6379/0?password=s3cr3t",
        "redis://app:p%40s3cr3t@[::1]:1/0",
        "redis://app:x/s3cr3t@db:6379/0",
        "ftp://app:s3cr3t@db",
        "app:s3cr3t@db",
    ],
)
def test_redacted__no_password(url: str) -> None:
    """Neither in what is shown, nor in the error about the URL."""
    assert "s3cr3t" not in redacted(url)
    bad: dict[str, Any] = {"RCACHE_URL": url.replace("redis", "http").replace("unix", "http")}
    with pytest.raises(ConfigError) as raised:
        load_settings(bad, {})
    assert "s3cr3t" not in str(raised.value)


@pytest.mark.parametrize(
    "config",
    [
        {"RCACHE_URL": "redis://app:s3cr3t/x@db:6379/0"},
        {"RCACHE_URL": "redis://app:s3cr3t@db\u2100/0"},
        {"RCACHE_URL": "app:s3cr3t@db"},
        {"REDIS_PORT": "1", "REDIS_HOST": "redis://:s3cr3t@"},
        {"REDIS_HOST": "app:s3cr3t@db"},
        {"REDIS_HOST": "db", "REDIS_PORT": "tcp://app:s3cr3t/x@db"},
    ],
    ids=str,
)
def test_load_settings__no_password_in_an_error(config: dict[str, Any]) -> None:
    """What the standard library says of a URL that it cannot read has pieces of it: nobody is shown those."""
    with pytest.raises(ConfigError, match=next(reversed(config))) as raised:
        load_settings(config, {})
    assert "s3cr3t" not in "".join(traceback.format_exception_only(raised.value))
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_redacted__keeps_the_rest() -> None:
    """Host, port, user and database stay readable."""
    assert redacted("redis://app:x@db:6379/1") == "redis://app:***@db:6379/1"
    assert redacted("redis://db:6379/1") == "redis://db:6379/1"
    assert redacted("localhost:6379") == "localhost:6379"
