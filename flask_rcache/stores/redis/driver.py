"""redis-py's connections: with which options, and to where.

Owns the options that come from the URL and from ``RCACHE_REDIS_OPTIONS``, and which of those would break a promise.
Connects nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final, cast

from redis import Connection as PlainConnection
from redis import ConnectionPool, Redis, SSLConnection, UnixDomainSocketConnection
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, parse_url
from redis.exceptions import RedisError
from redis.retry import Retry

from ...config.address import Address, Node
from ...errors import ConfigError

__all__ = ["Connector", "only_connecting"]

_BY_URL: Final = "it stands in RCACHE_URL"
_READS: Final = "the cache reads replies itself"
_RESENT: Final = "a command that is sent twice may be carried out twice; the circuit breaker tries again"
#: Options of redis-py that would break what the cache promises, and what to do instead.
_REFUSED: Final = {
    "host": _BY_URL,
    "port": _BY_URL,
    "path": _BY_URL,
    "db": _BY_URL,
    "unix_socket_path": _BY_URL,
    "ssl": "write rediss:// in RCACHE_URL",
    "connection_class": "the scheme of RCACHE_URL says it",
    "connection_pool": "the cache has a pool of its own",
    "connection_pool_class": "the cache has a pool of its own",
    "max_connections": "set RCACHE_MAX_CONNECTIONS",
    "timeout": "set RCACHE_TIMEOUT",
    "socket_timeout": "set RCACHE_TIMEOUT",
    "socket_connect_timeout": "set RCACHE_TIMEOUT",
    "health_check_interval": "the heartbeat finds dead connections",
    "retry": _RESENT,
    "retry_on_timeout": _RESENT,
    "retry_on_error": _RESENT,
    "protocol": _READS,
    "decode_responses": _READS,
    "legacy_responses": _READS,
    "encoding": _READS,
    "encoding_errors": _READS,
    "parser_class": _READS,
    "cache": "the memory tier of the cache does that",
    "cache_config": "the memory tier of the cache does that",
}
#: Options that may be given; and those that begin so.
_ALLOWED: Final = (
    "client_name",
    "credential_provider",
    "driver_info",
    "lib_name",
    "lib_version",
    "password",
    "username",
)
_ALLOWED_BEGINNINGS: Final = ("ssl_", "socket_keepalive", "socket_read_size", "socket_type")


class Connector:
    """Makes redis-py's connections with the options of one cache.

    Args:
        address: what the URL says; of its nodes nothing is taken.
        options: more options for redis-py, as ``RCACHE_REDIS_OPTIONS`` has them.
        timeout: seconds for connecting, and for each reply while connecting.
        setting: the name of the setting that has the options, for errors.

    Raises:
        ConfigError: an option that no connection takes, or one that would break a promise.
    """

    def __init__(
        self,
        address: Address,
        options: Mapping[str, Any],
        *,
        timeout: float,
        setting: str = "RCACHE_REDIS_OPTIONS",
    ) -> None:
        self._class: Final[type[AbstractConnection]] = (
            UnixDomainSocketConnection if address.path else SSLConnection if address.is_tls else PlainConnection
        )
        _check(options, setting, is_tls=address.is_tls, location=address.location)
        credentials = {"username": address.username, "password": address.password}
        if options.get("credential_provider") is not None and any(credentials.values()):
            raise ConfigError(
                f"RCACHE_URL {address.location} has a user or a password, and {setting} a credential_provider: "
                "leave one of them out"
            )
        self.options: Final[dict[str, Any]] = {
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            "retry": Retry(NoBackoff(), 0),
            **only_connecting(),
            **_of_query(address),
            **{name: value for name, value in credentials.items() if value is not None},
            **options,
            "db": address.database,
            "protocol": 3,  # whose replies the engine reads
        }
        try:
            self.to(Node("localhost", 6379), path=address.path)  # connects nowhere
        except (TypeError, ValueError, AttributeError, RedisError) as error:
            raise ConfigError(
                f"RCACHE_URL {address.location} or {setting} contains an invalid option: {error}"
            ) from error

    def to(self, node: Node, *, path: str = "") -> AbstractConnection:
        """A connection, not connected yet, to a server, or to a unix socket."""
        where: dict[str, Any] = {"path": path} if path else {"host": node.host, "port": node.port}
        return self._class(**where, **self.options)

    def client(self, node: Node, **more: Any) -> Redis:
        """A plain client of a server, with more options."""
        options: dict[str, Any] = {"host": node.host, "port": node.port, **self.options, **more}
        return Redis(connection_pool=ConnectionPool(connection_class=cast(Any, self._class), **options))


def only_connecting() -> dict[str, Any]:
    """Options that switch off what the driver does beside connecting, as its version calls them."""
    known = inspect.signature(AbstractConnection.__init__).parameters
    options: dict[str, Any] = (
        {"driver_info": None} if "driver_info" in known else {"lib_name": None, "lib_version": None}
    )
    try:
        from redis.maint_notifications import MaintNotificationsConfig  # since redis-py 7
    except ImportError:
        return options
    return {**options, "maint_notifications_config": MaintNotificationsConfig(enabled=False)}


def _of_query(address: Address) -> dict[str, Any]:
    """The options in a URL, as the types that the driver wants; they win over what the cache would take."""
    from urllib.parse import urlencode

    query = [(name, value) for name, value in address.query if name not in ("db", "max_connections")]
    try:
        options: dict[str, Any] = parse_url(f"redis://?{urlencode(query)}")
    except ValueError as error:
        raise ConfigError(f"RCACHE_URL {address.location} contains an invalid option: {error}") from error
    return options


def _check(options: Mapping[str, Any], setting: str, *, is_tls: bool, location: str) -> None:
    """Refuse what would break a promise, and what is no option."""
    for name, value in options.items():
        if name in _REFUSED:
            raise ConfigError(f"{setting} must not have {name}: {_REFUSED[name]}")
        if name not in _ALLOWED and not name.startswith(_ALLOWED_BEGINNINGS):
            known = ", ".join(_ALLOWED)
            raise ConfigError(f"{setting} has {name}, which the cache does not pass on; it takes {known} and ssl_…")
        if name.startswith("ssl_") and not is_tls:
            raise ConfigError(f"{setting} has {name}, and {location} does not use TLS: write rediss:// in RCACHE_URL")
        if name == "credential_provider" and not callable(getattr(value, "get_credentials", None)):
            raise ConfigError(
                f"credential_provider in {setting} must be a redis.CredentialProvider, with a method get_credentials, "
                f"not {type(value).__name__}"
            )
