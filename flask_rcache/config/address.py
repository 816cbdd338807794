"""Where the servers of the cache are, as ``RCACHE_URL`` says it.

Owns the reading of URLs: which schemes there are, what each may contain, and the sentence for what it may not. What can
be known without asking anybody is known here, when the app starts. Connects to nothing, and imports no driver.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from ..errors import ConfigError
from .redaction import redacted

__all__ = ["SCHEMES", "Address", "Node", "parse_address"]

#: What each scheme is.
SCHEMES: Final = {
    "memory": "memory",
    "redis": "server",
    "rediss": "server",
    "unix": "server",
    "redis+sentinel": "sentinel",
    "rediss+sentinel": "sentinel",
    "redis+cluster": "cluster",
    "rediss+cluster": "cluster",
}
_PORTS: Final = {"server": 6379, "sentinel": 26379, "cluster": 6379}
_LISTED: Final = "memory://, redis://, rediss://, unix://, redis+sentinel:// or redis+cluster:// (rediss+… for TLS)"
_HOST: Final = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.%a-z]+)\]|(?P<name>[^\s:\[\]@,/?#]*))(?::(?P<port>[0-9]{1,5}))?")
_DATABASE: Final = re.compile(r"[0-9]{1,6}")


@dataclass(frozen=True, slots=True)
class Node:
    """One server: a name or an address, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Address:
    """What a URL says.

    Args:
        kind: ``"memory"``, ``"server"``, ``"sentinel"`` or ``"cluster"``.
        location: the URL as logs and pages may have it, without its password.
        nodes: the server; or the sentinels; or the nodes of the cluster that are asked first.
        path: of a unix socket, in place of a node.
        is_tls: whether the connections are encrypted.
        username: of the user of the cache; ``None`` for the default user.
        password: of that user.
        service: what the sentinels call the master.
        database: the number of the database.
        query: the options behind the ``?``, by name, as text.
    """

    kind: str
    location: str
    nodes: tuple[Node, ...] = ()
    path: str = ""
    is_tls: bool = False
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    service: str = ""
    database: int = 0
    query: tuple[tuple[str, str], ...] = field(default=(), repr=False)


def parse_address(url: object, what: str) -> Address:
    """What a URL says.

    Args:
        url: the URL.
        what: where it was found, for errors.

    Raises:
        ConfigError: it is none that the cache can use; the message says what to change, and has no password in it.

    >>> parse_address("rediss+sentinel://app:secret@s1,s2:26380/shop/1", "RCACHE_URL").nodes
    (Node(host='s1', port=26379), Node(host='s2', port=26380))
    """
    shown = redacted(url) if isinstance(url, str) else repr(url)
    scheme = url.partition(":")[0] if isinstance(url, str) else ""
    kind = SCHEMES.get(scheme)
    if not isinstance(url, str) or kind is None or (kind != "memory" and not url.startswith(f"{scheme}://")):
        raise ConfigError(f"{what} must begin with {_LISTED}, not {shown}")
    if kind == "memory":
        return Address(kind, shown)
    try:
        parts = urlsplit(url)
        credentials, _, hosts = parts.netloc.rpartition("@")
    except ValueError:  # whose text may have a piece of the password in it
        raise _not_a_url(what, shown) from None
    username, _, password = credentials.partition(":")
    query = tuple(parse_qsl(parts.query, keep_blank_values=False))
    plain = Address(
        kind,
        shown,
        is_tls=scheme.startswith("rediss"),
        username=unquote(username) or None,
        password=unquote(password) or None,
        query=query,
    )
    if scheme == "unix":
        # As redis-py reads it: what stands before the path is nothing; the database is an option.
        return replace(plain, path=unquote(parts.path), database=_database(dict(query).get("db", ""), what, shown))
    nodes = _nodes(hosts, kind, what, shown)
    service, database = _path(parts.path, dict(query), kind, what, shown)
    return replace(plain, nodes=nodes, service=service, database=database)


def _not_a_url(what: str, shown: str) -> ConfigError:
    return ConfigError(
        f"{what} is not a URL: the host or the port is not valid, or the password has characters that must be "
        f"quoted there, such as %2F for a slash; it is {shown}"
    )


def _nodes(hosts: str, kind: str, what: str, shown: str) -> tuple[Node, ...]:
    listed = hosts.split(",")
    if kind == "server" and len(listed) > 1:
        raise ConfigError(
            f"{what} names several hosts, and redis:// is one server: write redis+sentinel://{hosts}/<service> for "
            f"sentinels, or redis+cluster://{hosts} for a cluster; it is {shown}"
        )
    nodes = []
    for each in listed:
        found = _HOST.fullmatch(each)
        port = int(found["port"] or _PORTS[kind]) if found is not None else 0
        host = "" if found is None else found["six"] or unquote(found["name"])
        if found is None or not 0 < port < 65536 or (not host and kind != "server"):
            raise _not_a_url(what, shown)
        nodes.append(Node(host or "localhost", port))
    return tuple(nodes)


def _path(path: str, query: dict[str, str], kind: str, what: str, shown: str) -> tuple[str, int]:
    """The service of the sentinels, and the database."""
    steps = [unquote(step) for step in path.strip("/").split("/")] if path.strip("/") else []
    if kind == "sentinel":
        if not steps:
            raise ConfigError(
                f"{what} names no service: write what the sentinels call the master behind the hosts, "
                f"redis+sentinel://host:26379/mymaster; it is {shown}"
            )
        service, *steps = steps
    else:
        service = ""
    text = query.get("db") or (steps[0] if steps else "")
    if len(steps) > 1:
        raise ConfigError(f"{what} has a path of too many parts, {path!r}: what may stand there is a database number")
    database = _database(text, what, shown)
    if kind == "cluster" and database:
        raise ConfigError(
            f"{what} names database {database}, and a cluster has database 0 alone: leave it out, and set "
            f"RCACHE_PREFIX where apps share the cluster; it is {shown}"
        )
    return service, database


def _database(text: str, what: str, shown: str) -> int:
    if text and not _DATABASE.fullmatch(text):
        raise ConfigError(f"{what} must have the number of a database behind the host, not {text!r}; it is {shown}")
    return int(text or 0)
