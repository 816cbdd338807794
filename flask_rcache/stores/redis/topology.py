"""Where a server is: at a fixed address, behind a name, or where the sentinels say.

Owns the driver's options, and which server a connection is made to. An :class:`Endpoint` is asked for each new
connection anew, so a name that was moved is followed. It connects nothing; the pool does. What follows when that is
another server than before is ``server``'s business.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from redis import Connection as PlainConnection
from redis import SSLConnection, UnixDomainSocketConnection
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, parse_url
from redis.exceptions import RedisError
from redis.retry import Retry

from ...config.address import Address, Node
from ...errors import ConfigError

__all__ = ["Connector", "Endpoint", "Moved", "ServerEndpoint", "endpoint_of", "only_connecting"]

#: Called when a failover was announced.
Moved = Callable[[], None]

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


class Endpoint(Protocol):
    """Where one server is.

    Attributes:
        location: for logs and pages; without a password.
    """

    @property
    def location(self) -> str:
        """For logs and pages; without a password."""
        ...

    def connection(self) -> AbstractConnection:
        """A connection, not connected yet, to where the server is now.

        It may have to ask others, so it is called by a thread that nobody waits for longer than their time.

        Raises:
            RedisError: that is not to be learnt now.
            OSError: the same.
        """
        ...

    def watch(self, moved: Moved) -> None:
        """Have a thread call a bound method, held weakly, when a failover is announced; nothing where none is."""
        ...

    def state(self) -> dict[str, Any]:
        """What operators see of it: ``kind``, and what there is beside it."""
        ...

    def close(self) -> None:
        """End the thread and close the connections; the endpoint may be used again."""
        ...


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


class ServerEndpoint:
    """One server at an address, or behind a name, which is resolved anew for each connection.

    Args:
        location: for logs and pages.
        connector: makes the connections.
        node: the server.
        path: of its unix socket, in place of the node.
    """

    def __init__(self, location: str, connector: Connector, node: Node, *, path: str = "") -> None:
        self.location: Final = location
        self._connector: Final = connector
        self._node: Final = node
        self._path: Final = path

    def connection(self) -> AbstractConnection:
        """See :meth:`Endpoint.connection`: the driver resolves the name."""
        return self._connector.to(self._node, path=self._path)

    def watch(self, moved: Moved) -> None:
        """See :meth:`Endpoint.watch`: a name announces nothing."""

    def state(self) -> dict[str, Any]:
        """See :meth:`Endpoint.state`."""
        return {"kind": "server"}

    def close(self) -> None:
        """See :meth:`Endpoint.close`: there is nothing to end."""


def endpoint_of(
    address: Address,
    *,
    timeout: float,
    options: Mapping[str, Any] | None = None,
) -> Endpoint:
    """The endpoint that an address of one server, or of sentinels, stands for.

    Args:
        address: what the URL says.
        timeout: seconds to wait for each answer.
        options: for redis-py.

    Raises:
        ConfigError: an option that is not usable, or the address of a cluster.
    """
    connector = Connector(address, options or {}, timeout=timeout)
    if address.kind == "server":
        node = address.nodes[0] if address.nodes else Node("", 0)
        return ServerEndpoint(address.location, connector, node, path=address.path)
    raise ConfigError(f"RCACHE_URL {address.location} is not the address of one server")


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
