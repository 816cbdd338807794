"""Settings: every ``RCACHE_*`` key, where its value comes from, and what it means.

Owns :class:`Settings`, the frozen configuration of one app, read once in ``init_app``. Precedence of each key:
``app.config``, then the environment variable of the same name, then the default here. Does not connect anywhere.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import Any, Final
from urllib.parse import quote, urlsplit

from ..errors import ConfigError
from . import parsers
from .parsers import redacted

__all__ = ["Settings", "load_settings"]

_CREDENTIAL_COOKIES: Final = ("remember_token", "access_token_cookie")
#: What proxies that authenticate send on, and the usual names of API keys.
_CREDENTIAL_HEADERS: Final = (
    "X-Api-Key",
    "X-Auth-Token",
    "Remote-User",
    "X-Forwarded-User",
    "X-Remote-User",
    "X-Auth-Request-User",
    "X-Amzn-Oidc-Identity",
    "X-Goog-Authenticated-User-Email",
    "X-Ms-Client-Principal",
    "Cf-Access-Jwt-Assertion",
)
_TTL_KEY: Final = re.compile(r"RCACHE_TTL_([A-Z][A-Z0-9_]*)")
_TTL_ALIAS: Final = re.compile(r"CACHE_TTL_([A-Z][A-Z0-9_]*)")


def _setting(default: Any, parse: Callable[[object, str], Any], help: str, *, shown: bool = True) -> Any:
    return field(default=default, repr=shown, metadata={"parse": parse, "help": help})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The configuration of one app. A field ``name`` is the key ``RCACHE_NAME``."""

    url: str = _setting(
        "memory://",
        parsers.url,
        "The store: `memory://`, `redis://`, `rediss://` or `unix://`, with user, password and database number.",
        shown=False,
    )
    prefix: str = _setting("cache", parsers.prefix, "The first part of every key; set it when apps share a database.")
    enabled: bool = _setting(True, parsers.boolean, "`false`: no read and no fill, while invalidations are still sent.")
    strict: bool | None = _setting(
        None, parsers.boolean, "Raise for a value that cannot be kept exactly; default: `app.testing`."
    )
    ttl_default: float = _setting(300.0, parsers.seconds, "Seconds an entry is fresh when nothing else says so.")
    timeout: float = _setting(0.25, parsers.seconds, "Seconds to wait for the store's answer before it counts as away.")
    lease: float = _setting(5.0, parsers.seconds, "Seconds after which a dead loader's key may be loaded by another.")
    load_timeout: float = _setting(
        30.0, parsers.seconds, "Seconds one load may hold up others who want its key; then they load for themselves."
    )
    compress_from: int = _setting(1024, parsers.whole, "Bytes from which a body is tried with zstd; 0 tries every one.")
    compress_level: int = _setting(3, parsers.level, "The zstd level, 1 to 19.")
    max_bytes: int = _setting(8 * 1024 * 1024, parsers.whole, "Bytes above which a body or value is not stored.")
    l1_bytes: int = _setting(64 * 1024 * 1024, parsers.whole, "Bytes the memory tier of one process may hold.")
    l1_ttl: float = _setting(
        2.0,
        parsers.window,
        "Seconds the memory tier holds an entry at most, and so how stale it can be; 0 switches it off.",
    )
    outage_ttl: float = _setting(
        2.0, parsers.window, "Seconds a result is kept in this process while Redis is away; 0 for not at all."
    )
    on_failover: str = _setting(
        "cold",
        parsers.failover,
        "`cold`: a server run not seen before (restart, failover) starts empty; `warm` keeps what it has.",
    )
    max_variants: int = _setting(32, parsers.whole, "Variants (`Vary`) of one URL that are kept; more are not stored.")
    show_key: bool = _setting(
        True, parsers.boolean, "Whether responses bear `X-Cache-Key` and the key in `Cache-Status`."
    )
    credential_cookies: tuple[str, ...] = _setting(
        _CREDENTIAL_COOKIES,
        parsers.added_to(_CREDENTIAL_COOKIES),
        "More cookies that identify a caller, beside these and the session's: requests with one pass the cache by.",
    )
    credential_headers: tuple[str, ...] = _setting(
        _CREDENTIAL_HEADERS,
        parsers.added_to(_CREDENTIAL_HEADERS),
        "More header fields that identify a caller, beside these and `Authorization`: the same.",
    )
    allow_refresh: Callable[[Any], bool] | None = _setting(
        None, parsers.callback, "Called with the request; true lets `Cache-Control: no-cache` force a new load."
    )
    user_jwt_key: Any = _setting(
        None,
        parsers.key,
        "What verifies bearer tokens for `by_user`: a secret of 32 bytes or more, or a public key in PEM.",
        shown=False,
    )
    user_jwt_algorithms: tuple[str, ...] = _setting(
        (), parsers.names, "Narrows the algorithms that the kind of the key allows; empty for all of those."
    )
    admin: bool = _setting(
        True, parsers.boolean, "Whether the app has the admin API; nobody is let in until a key is set."
    )
    admin_url_prefix: str = _setting("/api/cache", parsers.url_prefix, "Where the admin API and the dashboard are.")
    admin_jwt_key: str | bytes | None = _setting(
        None,
        parsers.secret,
        "What verifies the admin API's tokens: a secret of 32 bytes or more, or a public key in PEM.",
        shown=False,
    )
    admin_jwt_algorithms: tuple[str, ...] = _setting(
        (), parsers.names, "Narrows the algorithms that the kind of the key allows; empty for all of those."
    )
    admin_jwt_audience: tuple[str, ...] = _setting(
        (), parsers.some_names, "A token's `aud` must have one of these; empty: it is not looked at."
    )
    admin_jwt_issuer: str | None = _setting(
        None, parsers.text, "What a token's `iss` must be; not set: it is not looked at."
    )
    admin_jwt_leeway: float = _setting(
        10.0, parsers.leeway, "Seconds by which clocks may differ in `exp`, `nbf` and `iat`."
    )
    admin_jwks_url: str | None = _setting(
        None, parsers.text, "Where an identity provider shows its public keys (JWKS), in place of a key.", shown=False
    )
    admin_claim: str = _setting("role", parsers.text, "The claim that holds the role, or a path: `realm_access.roles`.")
    admin_value: str = _setting("admin", parsers.text, "The role that is let in; the claim is it, or a list with it.")
    admin_guard: Callable[[Any], Any] | None = _setting(
        None, parsers.callback, "Called with the request in place of the check of a token; says who is let in."
    )
    metrics: tuple[str, ...] = _setting(
        (),
        parsers.metrics,
        "`prometheus`, `opentelemetry` or both: what is told of every count; each is an extra to install.",
    )
    ttls: Mapping[str, float] = field(default_factory=dict)
    """Seconds by type name, from ``RCACHE_TTL_<NAME>`` and its aliases."""


_FIELDS: Final = {
    f"RCACHE_{item.name.upper()}": item for item in dataclasses.fields(Settings) if "parse" in item.metadata
}


def load_settings(config: Mapping[str, Any], environ: Mapping[str, str], *, testing: bool = False) -> Settings:
    """The settings of an app.

    Args:
        config: the app's ``config``.
        environ: the process's environment.
        testing: ``app.testing``; the default of ``RCACHE_STRICT``.

    Raises:
        ConfigError: an unknown ``RCACHE_*`` key in ``config``, or a value that is not usable.

    Warns:
        UserWarning: an unknown ``RCACHE_*`` variable in the environment.
    """
    for key in _unknown(config):
        raise ConfigError(f"{key} in app.config is not a setting of flask_rcache{_nearest(key)}")
    for key in _unknown(environ):
        warnings.warn(f"the environment variable {key} is not a setting of flask_rcache{_nearest(key)}", stacklevel=3)
    values: dict[str, Any] = {}
    for key, item in _FIELDS.items():
        raw, source = _lookup(key, config, environ)
        if raw is not None:
            values[item.name] = item.metadata["parse"](raw, source)
    if values.get("strict") is None:
        values["strict"] = testing
    return Settings(**values, ttls=_ttls(config, environ))


def _unknown(keys: Mapping[str, Any]) -> list[str]:
    return [
        key
        for key in keys
        if isinstance(key, str) and key.startswith("RCACHE_") and key not in _FIELDS and not _TTL_KEY.fullmatch(key)
    ]


def _nearest(key: str) -> str:
    near = difflib.get_close_matches(key, [*_FIELDS, "RCACHE_TTL_DASHBOARD"], n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else f"; the settings are {', '.join(sorted(_FIELDS))}"


def _lookup(key: str, config: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[object, str]:
    """The raw value of a key and where it was found."""
    if config.get(key) is not None:
        return config[key], f"{key} in app.config"
    if environ.get(key):  # an empty variable is one that is not set
        return environ[key], f"the environment variable {key}"
    alias = {
        "RCACHE_ENABLED": "CACHE_ENABLED",
        "RCACHE_URL": "REDIS_URL",
        "RCACHE_TTL_DEFAULT": "CACHE_TTL_DEFAULT",
    }.get(key)
    if alias is not None:
        if config.get(alias) not in (None, ""):
            return config[alias], f"{alias} in app.config"
        if environ.get(alias):
            return environ[alias], f"the environment variable {alias}"
    if key == "RCACHE_URL":
        return _host_and_port(config, environ)
    return None, ""


def _host_and_port(config: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[object, str]:
    """``REDIS_HOST`` and ``REDIS_PORT`` as a URL; Kubernetes injects the port as ``tcp://10.0.0.1:6379``."""
    host = config.get("REDIS_HOST") or environ.get("REDIS_HOST")
    if not host:
        return None, ""
    port = str(config.get("REDIS_PORT") or environ.get("REDIS_PORT") or "6379")
    try:
        number = int((urlsplit(port).port or 6379) if "://" in port else port)
    except ValueError:
        number = 0
    if not 0 < number < 65536:
        raise ConfigError(f"REDIS_PORT must be a port number or tcp://host:port, not {redacted(port)!r}")
    name = str(host)
    try:
        if "://" in name:
            name = urlsplit(name).hostname or name
        if ":" in name and not name.startswith("["):
            name = f"[{IPv6Address(name)}]"
    except ValueError:  # whose text has what may be a password in it
        raise ConfigError(f"REDIS_HOST must be a name or an address, without a port, not {redacted(name)!r}") from None
    return f"redis://{quote(name, safe='[]:')}:{number}/0", "REDIS_HOST"


def _ttls(config: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, float]:
    """Overrides by type name; later sources win, so the order is from weak to strong."""
    found: dict[str, float] = {}
    for mapping, where in ((environ, "the environment variable {}"), (config, "{} in app.config")):
        for pattern in (_TTL_ALIAS, _TTL_KEY):
            for key in mapping:
                match = pattern.fullmatch(key) if isinstance(key, str) else None
                if match and match[1] != "DEFAULT" and mapping[key] not in (None, ""):
                    found[match[1].lower()] = parsers.seconds(mapping[key], where.format(key))
    return found
