"""Settings: every ``RCACHE_*`` key, where its value comes from, and what it means.

Owns :class:`Settings`, the frozen configuration of one app, read once in ``init_app``. Precedence of each key:
``app.config``, then the environment variable of the same name, then the default here. Which types there are, and so
whether an ``RCACHE_TTL_<NAME>`` names one, is known only when the app starts (``startup``). Connects to nothing.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, NoReturn
from urllib.parse import quote, urlsplit

from ..errors import ConfigError
from ..model.named_tuple import NamedTuple
from . import parsers
from .redaction import redacted

__all__ = ["SETTINGS", "Setting", "Settings", "TtlSource", "guess", "load_settings", "nearest"]

#: What login libraries (flask-login, flask-jwt-extended, Flask-HTTPAuth), Flask's tutorial and Flask-WTF keep on ``g``
#: for a request, and so what says who is asking.
_IDENTITY_G: Final = (
    "_login_user",
    "_jwt_extended_jwt",
    "_jwt_extended_jwt_user",
    "flask_httpauth_user",
    "user",
    "csrf_token",
)
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


class Setting(NamedTuple):
    """What a setting is: its default, what reads it, and what it means; ``shown`` says whether logs may have it."""

    default: Any
    parse: Callable[[object, str], Any]
    help: str
    shown: bool = True


def _setting(default: Any, parse: Callable[[object, str], Any], help: str, *, shown: bool = True) -> Any:
    return Setting(default, parse, help, shown)


class TtlSource(NamedTuple):
    """Where the ttl of a type was found: its key, and whether that stands in ``app.config``."""

    key: str
    in_config: bool

    def __str__(self) -> str:
        return f"{self.key} in app.config" if self.in_config else f"the environment variable {self.key}"


class Settings:
    """The configuration of one app, which nobody changes. An attribute ``name`` is the key ``RCACHE_NAME``.

    No dataclass: one of so many fields takes as long to make as all that is read here.

    Args:
        values: of the attributes; the others have their defaults.
    """

    url: str = _setting(
        "memory://",
        parsers.url,
        "The store: `memory://`; `redis://`, `rediss://` (TLS) or `unix://`, with user, password and database number; "
        "`redis+sentinel://host:port,…/service`; `redis+cluster://host:port,…`; both with `rediss+…` too.",
        shown=False,
    )
    redis_options: Mapping[str, Any] = _setting(
        MappingProxyType({}),
        parsers.driver_options,
        "Options for redis-py's connections, a dict or JSON: `credential_provider`, `client_name`, `ssl_…`.",
        shown=False,
    )
    sentinel_options: Mapping[str, Any] = _setting(
        MappingProxyType({}),
        parsers.driver_options,
        "The same for the connections to the sentinels, whose `username` and `password` are others than the server's; "
        "`ssl_…` as in `RCACHE_REDIS_OPTIONS` where they are not given here.",
        shown=False,
    )
    prefix: str = _setting("cache", parsers.prefix, "The first part of every key; set it when apps share a database.")
    release: str | None = _setting(
        None,
        parsers.text,
        "What is deployed, such as a commit. It is part of the default keys of views, so that no page links to the "
        "assets of the release before.",
    )
    enabled: bool = _setting(
        True, parsers.boolean, "`false`: no reads and no fills, while invalidations are still sent."
    )
    strict: bool | None = _setting(
        None, parsers.boolean, "Raise for a value that cannot be stored exactly; default: `app.testing`."
    )
    ttl_default: float = _setting(300.0, parsers.seconds, "Seconds an entry is fresh where no other ttl applies.")
    timeout: float = _setting(0.25, parsers.seconds, "Seconds to wait for an answer of the store.")
    lease: float = _setting(5.0, parsers.seconds, "Seconds after which the lease of a process that died expires.")
    load_timeout: float = _setting(
        30.0, parsers.seconds, "Seconds that a reader waits for another's load of its key; then it loads for itself."
    )
    max_connections: int = _setting(512, parsers.count, "Connections of one process to the store at most.")
    shards: int = _setting(
        16,
        parsers.count,
        "Parts into which the entries on a cluster are divided, however many nodes it has; the same in all processes.",
    )
    idle_timeout: float = _setting(30.0, parsers.seconds, "Seconds after which an idle connection is closed.")
    max_stamps: int = _setting(
        100_000,
        parsers.count,
        "Tags whose last invalidation the store remembers; the oldest are dropped, which causes misses.",
    )
    compress_from: int = _setting(1024, parsers.whole, "Bytes from which a body is compressed; 0 tries every one.")
    compress_level: int = _setting(3, parsers.level, "The zstd level, 1 to 19.")
    max_bytes: int = _setting(8 * 1024 * 1024, parsers.whole, "Bytes above which a body or value is not stored.")
    encryption_keys: tuple[bytes, ...] = _setting(
        (),
        parsers.encryption_keys,
        "Keys that seal what is stored in Redis, each 32 random bytes in base64: a list, or with commas between them. "
        "The first writes, all read. Needs the extra `crypto`.",
        shown=False,
    )
    l1_bytes: int = _setting(64 * 1024 * 1024, parsers.whole, "Bytes the memory tier of one process may take.")
    l1_ttl: float = _setting(
        2.0,
        parsers.window,
        "Seconds the memory tier keeps an entry at most, and so how stale it can be; 0 switches it off.",
    )
    outage_ttl: float = _setting(
        2.0, parsers.window, "Seconds a result is kept in this process while Redis is unavailable; 0 for not at all."
    )
    on_failover: str = _setting(
        "cold",
        parsers.one_of("cold", "warm"),
        "`cold`: after a restart or failover the cache starts empty; `warm` keeps what the server has.",
    )
    journal_keep: float = _setting(
        60.0,
        parsers.window,
        "Seconds for which acknowledged invalidations are kept, to be sent again to a server that takes over.",
    )
    max_variants: int = _setting(
        32, parsers.whole, "Variants of one URL that are kept; for one more, the least used goes. 0: none is stored."
    )
    show_key: bool | None = _setting(
        None,
        parsers.boolean,
        "Whether responses have `X-Cache-Key` and the key in `Cache-Status`; default: but for `per_user` types.",
    )
    negotiated: tuple[str, ...] = _setting(
        (),
        parsers.names,
        "More header fields that negotiate content: an answer that depends on one is kept for each of its values.",
    )
    ignored_fields: tuple[str, ...] = _setting(
        (),
        parsers.names,
        "More header fields that do not select the answer when they are read before the view, as tracing does.",
    )
    credential_cookies: tuple[str, ...] = _setting(
        _CREDENTIAL_COOKIES,
        parsers.added_to(_CREDENTIAL_COOKIES),
        "More cookies that identify a caller, beside these and the session's: requests with one bypass the cache.",
    )
    credential_headers: tuple[str, ...] = _setting(
        _CREDENTIAL_HEADERS,
        parsers.added_to(_CREDENTIAL_HEADERS),
        "More header fields that identify a caller, beside these and `Authorization`: the same.",
    )
    targeted_fields: tuple[str, ...] = _setting(
        (),
        parsers.fields,
        "Response fields such as `CDN-Cache-Control` that the cache obeys instead of `Cache-Control`, the most "
        "specific first (RFC 9213).",
    )
    identity_g: tuple[str, ...] = _setting(
        _IDENTITY_G,
        parsers.added_to(_IDENTITY_G),
        "More attributes of `flask.g` that identify the user, whatever lies there: what reads one in a cached "
        "function, or in a view with `shared=True`, is not stored.",
    )
    front: bool = _setting(
        False,
        parsers.boolean,
        "`true`: hits of anonymous requests are answered from memory before routing; `CacheType(front=True)` for one "
        "type.",
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
        True, parsers.boolean, "`false`: no admin API, even when a key or a guard for it is configured."
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
        (), parsers.some_names, "A token's `aud` must have one of these; empty: it is not checked."
    )
    admin_jwt_issuer: str | None = _setting(
        None, parsers.text, "What a token's `iss` must be; not set: it is not checked."
    )
    admin_jwt_leeway: float = _setting(
        10.0, parsers.leeway, "Seconds by which clocks may differ in `exp`, `nbf` and `iat`."
    )
    admin_jwks_url: str | None = _setting(
        None,
        parsers.text,
        "Where an identity provider publishes its keys (JWKS), in place of a key; needs the extra `jwks`.",
        shown=False,
    )
    admin_claim: str = _setting("role", parsers.text, "The claim that has the role, or a path: `realm_access.roles`.")
    admin_value: str = _setting(
        "admin", parsers.text, "The role that is admitted: the value of the claim, or one of its list."
    )
    admin_guard: Callable[[Any], Any] | None = _setting(
        None, parsers.callback, "Called with the request in place of checking a token; returns who is admitted."
    )
    events: Mapping[str, Any] = _setting(
        {},
        parsers.mapping,
        "What events invalidate: by name, lists of `tags`, `types`, `urls` and `users`, with fields in braces.",
    )
    events_stream: str | None = _setting(
        None, parsers.text, "The Redis stream that events are added to, and that `flask cache events` reads."
    )
    events_group: str | None = _setting(
        None, parsers.text, "The consumer group of this app on that stream; default: the prefix."
    )
    write_attempts: int = _setting(
        5, parsers.count, "How often a write behind is tried before it goes to the dead letters."
    )
    write_limit: int = _setting(
        100_000, parsers.count, "Writes behind that a queue may hold; when it is full, more are refused."
    )
    warming: bool = _setting(True, parsers.boolean, "`false`: this process runs no warming tasks by itself.")
    warming_url: str | None = _setting(
        None, parsers.text, "Where clients find the app, for pages that are warmed: `https://www.example.org`."
    )
    metrics: tuple[str, ...] = _setting(
        (),
        parsers.metrics,
        "Metrics exporters: `prometheus`, `opentelemetry` or both; each is an extra to install.",
    )
    ttls: Mapping[str, float]
    """Seconds by the name of the type, from ``RCACHE_TTL_<NAME>`` and its aliases."""
    ttl_sources: Mapping[str, TtlSource]
    """Where each of them was found."""

    def __init__(self, **values: Any) -> None:
        defaults = {name: setting.default for name, setting in SETTINGS.items()}
        self.__dict__.update(defaults, ttls={}, ttl_sources={})
        unknown = values.keys() - self.__dict__.keys()
        if unknown:
            raise TypeError(f"no settings: {', '.join(sorted(unknown))}")
        self.__dict__.update(values)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"settings are read once, in init_app: {name} cannot be set any more")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"settings are read once, in init_app: {name} cannot be deleted")

    def __repr__(self) -> str:
        shown = [f"{name}={getattr(self, name)!r}" for name, setting in SETTINGS.items() if setting.shown]
        return f"Settings({', '.join(shown)})"

    @property
    def is_shared(self) -> bool:
        """Whether processes share what is cached: not with ``memory://``."""
        return not self.url.startswith("memory:")


#: By the name of the attribute.
SETTINGS: Final[Mapping[str, Setting]] = {
    name: setting for name, setting in vars(Settings).items() if isinstance(setting, Setting)
}
_KEYS: Final = {f"RCACHE_{name.upper()}": name for name in SETTINGS}


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
    known = [*_KEYS, "RCACHE_TTL_DASHBOARD"]
    for key in _unknown(config):
        raise ConfigError(f"{key} in app.config is not a setting of flask_rcache{nearest(key, known)}")
    for key in _unknown(environ):
        text = f"the environment variable {key} is not a setting of flask_rcache{nearest(key, known)}"
        warnings.warn(text, stacklevel=3)
    values: dict[str, Any] = {}
    for key, name in _KEYS.items():
        raw, source = _lookup(key, config, environ)
        if raw is not None:
            values[name] = SETTINGS[name].parse(raw, source)
    if values.get("strict") is None:
        values["strict"] = testing
    sources = _ttl_sources(config, environ)
    ttls = {
        name: parsers.seconds((config if source.in_config else environ)[source.key], str(source))
        for name, source in sources.items()
    }
    return Settings(**values, ttls=ttls, ttl_sources=sources)


def _unknown(keys: Iterable[object]) -> list[str]:
    return [
        key
        for key in keys
        if isinstance(key, str) and key.startswith("RCACHE_") and key not in _KEYS and not _TTL_KEY.fullmatch(key)
    ]


def nearest(name: str, known: Iterable[str]) -> str:
    """What to add to an error about an unknown name: the known one that it is near, or all of them.

    >>> nearest("prodcts", ["product", "search"])
    '; did you mean product?'
    """
    known = sorted(known)
    return guess(name, known) or f"; known: {', '.join(known) or 'none'}"


def guess(name: str, known: Iterable[str]) -> str:
    """What to add to an error about an unknown name: the known one that it is near; empty when it is near none.

    >>> guess("prodcts", ["product", "search"]), guess("weather", ["product"])
    ('; did you mean product?', '')
    """
    import difflib  # rarely needed

    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


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
    from ipaddress import IPv6Address  # rarely needed

    try:
        if "://" in name:
            name = urlsplit(name).hostname or name
        if ":" in name and not name.startswith("["):
            name = f"[{IPv6Address(name)}]"
    except ValueError:  # whose text has what may be a password in it
        raise ConfigError(f"REDIS_HOST must be a name or an address, without a port, not {redacted(name)!r}") from None
    return f"redis://{quote(name, safe='[]:')}:{number}/0", "REDIS_HOST"


def _ttl_sources(config: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, TtlSource]:
    """Where the ttl of each type is set; later sources win, so the order is from weak to strong."""
    found: dict[str, TtlSource] = {}
    sources: tuple[tuple[Mapping[str, Any], bool], ...] = ((environ, False), (config, True))
    for mapping, in_config in sources:
        for pattern in (_TTL_ALIAS, _TTL_KEY):
            for key in mapping:
                match = pattern.fullmatch(key) if isinstance(key, str) else None
                if match and match[1] != "DEFAULT" and mapping[key] not in (None, ""):
                    found[match[1].lower()] = TtlSource(key, in_config)
    return found
