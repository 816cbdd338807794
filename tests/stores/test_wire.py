"""Ways to a server: TLS, users and passwords, database numbers, sockets, gevent; and secrets that stay secret."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flask_rcache.config.address import parse_address
from flask_rcache.errors import ConfigError, StoreUnavailableError
from flask_rcache.stores.redis.topology import endpoint_of
from tests.certificates import Certificate
from tests.processes import free_port
from tests.servers import Server
from tests.stores.kit import redis_store
from tests.stores.transport import Transport, at_once

Servers = Callable[..., Server]
VALUE = b"y" * 300_000


@pytest.fixture
def secure(private_server: Servers, tmp_path: Path) -> tuple[Server, str, Path]:
    """A server with TLS, where that is, and its certificate."""
    tls = Certificate.made(tmp_path)
    port = free_port()
    server = private_server("redis", tls_port=port, **tls.settings)
    return server, f"localhost:{port}/0", tls.certificate


@pytest.fixture
def works() -> Iterator[Callable[[str], bool]]:
    """Whether a server can be used over a URL, by several threads at once and with large values."""
    made: list[Transport] = []

    def check(url: str) -> bool:
        made.append(Transport(url))
        ask = made[-1].ask
        stored = at_once(lambda number: ask("SET", f"cache:{number}", VALUE), 4)
        return stored == [b"OK"] * 4 and ask("GET", "cache:3") == VALUE and ask("PING") == b"PONG"

    yield check
    for each in made:
        each.pool.close()


def refused(url: str) -> str:
    """What is said when a server cannot be used over a URL."""
    transport = Transport(url)
    with pytest.raises(StoreUnavailableError) as raised:
        transport.ask("PING")
    assert transport.breaker.is_open
    assert transport.pool.connections == 0
    return str(raised.value)


def test_wire__tls(secure: tuple[Server, str, Path], works: Callable[[str], bool]) -> None:
    """rediss:// works with the server's certificate named, and refuses a server that it cannot check."""
    _, place, cert = secure
    assert works(f"rediss://{place}?ssl_ca_certs={cert}")
    assert works(f"rediss://{place.replace('localhost', '127.0.0.1')}?ssl_ca_certs={cert}")
    assert "certificate" in refused(f"rediss://{place}")
    assert "if it expects TLS, write rediss:// in RCACHE_URL" in refused(f"redis://{place}")


@pytest.mark.chaos
def test_wire__tls_and_a_server_that_falls_silent(secure: tuple[Server, str, Path]) -> None:
    """The timeout holds over TLS too."""
    server, place, cert = secure
    transport = Transport(f"rediss://{place}?ssl_ca_certs={cert}", timeout=0.5)
    assert transport.ask("PING") == b"PONG"
    server.pause()
    with pytest.raises(StoreUnavailableError, match="no answer within"):
        transport.ask("PING")
    with pytest.raises(StoreUnavailableError):
        transport.ask("PING", probing=True)
    server.resume()
    assert transport.ask("PING", probing=True) == b"PONG"
    transport.pool.close()


def test_wire__a_wrong_url_has_its_remedy(private_server: Servers, redis_server: Server) -> None:
    """One sentence in the error that opens the outage: what answers there, and what to write instead."""
    assert "if it does not use TLS, write redis:// in RCACHE_URL" in refused(
        f"rediss://127.0.0.1:{redis_server.port}/0"
    )
    locked = private_server("redis", requirepass="s3cr3t")
    assert "wants a password: write redis://user:password@" in refused(f"redis://127.0.0.1:{locked.port}/0")
    wrong = refused(f"redis://:other@127.0.0.1:{locked.port}/0")
    assert "correct the user and the password in RCACHE_URL" in wrong
    member = private_server("redis", cluster_enabled="yes")
    store = redis_store(member.url)
    with pytest.raises(StoreUnavailableError, match=r"is a node of a cluster: write redis\+cluster:// in RCACHE_URL"):
        store.read("cache:search:a", ())
    store.close()


class Rotating:
    """Credentials that change, or cannot be had."""

    def __init__(self) -> None:
        self.password = ""

    def get_credentials(self) -> tuple[str]:
        if not self.password:
            raise LookupError("the vault is sealed")
        return (self.password,)


def test_wire__credentials_that_rotate(private_server: Servers) -> None:
    """Each connection asks for them anew; that they cannot be had is an outage, no error of the request."""
    server, provider = private_server(requirepass="first"), Rotating()
    url, options = f"redis://127.0.0.1:{server.port}/0", {"credential_provider": provider, "client_name": "shop"}
    transport = Transport(url, options=options)
    with pytest.raises(StoreUnavailableError, match="LookupError: the vault is sealed"):
        transport.ask("PING")
    for password in ("first", "second"):
        server.client(password="first").config_set("requirepass", password)
        provider.password = password
        transport.pool.close()
        assert transport.ask("CLIENT", "GETNAME", probing=True) == b"shop"
    transport.pool.close()


def test_wire__user_and_password(private_server: Servers, works: Callable[[str], bool]) -> None:
    """An ACL user that may reach the cache's own keys only; special characters in the password."""
    server = private_server()
    server.client().acl_setuser(
        "app",
        enabled=True,
        passwords=["+p@ss:w/rd%"],
        keys=["cache:*", "cache~*"],
        channels=["cache~*"],
        commands=["+@all", "-@admin", "-@dangerous", "+info"],
    )
    assert works(f"redis://app:p%40ss%3Aw%2Frd%25@127.0.0.1:{server.port}/0")


def test_wire__password_only(private_server: Servers, works: Callable[[str], bool]) -> None:
    """requirepass, over TCP and over the unix socket."""
    server = private_server(requirepass="secret")
    assert works(server.url)
    assert works(server.socket_url)


@pytest.mark.parametrize("place", ["tcp", "unix"])
def test_wire__database_number(redis_server: Server, place: str, works: Callable[[str], bool]) -> None:
    """The number in the URL is the database used."""
    where = f"redis://127.0.0.1:{redis_server.port}/3" if place == "tcp" else f"{redis_server.socket_url}?db=3"
    assert works(where)
    assert redis_server.client(db=3).exists("cache:3") == 1
    assert redis_server.client(db=0).exists("cache:3") == 0


@pytest.mark.parametrize("option", ["bogus=1", "ssl_cert_reqs=none", "timeout=20", "socket_timeout=abc", "db=first"])
def test_wire__an_option_that_no_connection_takes(option: str) -> None:
    """It ends the start and names the setting; later it would be an error of each request."""
    url = f"redis://app:s3cr3t@127.0.0.1:{free_port()}/0?{option}"
    with pytest.raises(ConfigError, match="RCACHE_URL") as raised:
        endpoint_of(parse_address(url, "RCACHE_URL"), timeout=1.0)
    assert "s3cr3t" not in str(raised.value)


def test_wire__the_protocol_is_the_engines(redis_server: Server) -> None:
    """With `protocol=2` in the URL the replies are still those that the engine reads."""
    transport = Transport(f"{redis_server.url}?protocol=2")
    redis_server.client().hset("h", "a", "1")
    assert transport.ask("HGETALL", "h") == {b"a": b"1"}
    transport.pool.close()


def test_wire__location_hides_the_password(caplog: pytest.LogCaptureFixture) -> None:
    """Neither the location, nor the error, nor its log line shows it, wherever it stands in the URL."""
    port = free_port()
    for url in (f"redis://app:s3cr3t@127.0.0.1:{port}/0", f"redis://127.0.0.1:{port}/0?password=s3cr3t"):
        transport = Transport(url)
        assert "s3cr3t" not in transport.pool.location
        assert str(port) in transport.pool.location
        with caplog.at_level(logging.DEBUG), pytest.raises(StoreUnavailableError) as raised:
            transport.ask("PING")
        error: BaseException | None = raised.value
        while error is not None:
            assert "s3cr3t" not in str(error)
            error = error.__cause__
        assert "s3cr3t" not in caplog.text


GEVENT = """
import gevent.monkey
gevent.monkey.patch_all()
import os, signal, sys, time
import gevent
from tests.stores.kit import redis_store
from tests.stores.transport import Transport, request
from flask_rcache.config.address import parse_address
from flask_rcache.errors import StoreUnavailableError
from flask_rcache.stores.redis.bus import Bus

class Listener:
    def apply(self, message): pass
    def distrust(self): pass

url, pid = sys.argv[1], int(sys.argv[2])
transport = Transport(url, timeout=0.5)
asking = [gevent.spawn(transport.ask, "BLPOP", f"nothing{number}", 0.2) for number in range(20)]
gevent.joinall(asking, raise_error=True)
assert transport.ask("SET", "k", b"x" * 3_000_000) == b"OK"
assert len(transport.ask("GET", "k")) == 3_000_000
listener = Listener()
bus = Bus(transport.pool, "channel", listener)
bus.ensure()
with gevent.Timeout(10):
    while bus.state != "alive":
        gevent.sleep(0.01)
bus.stop()
ticks = []
gevent.spawn(lambda: [ticks.append(gevent.sleep(0.02)) for _ in range(1000)])
gevent.sleep(0)
os.kill(pid, signal.SIGSTOP)
began = time.monotonic()
try:
    with request() as scope:
        transport.ask("PING")
except StoreUnavailableError:
    assert 0.4 < time.monotonic() - began < 3, time.monotonic() - began
    assert 0.4 < scope.waited < 0.6, scope.waited
    assert len(ticks) > 8, "the hub went on"
    print("GOOD", end="")
finally:
    os.kill(pid, signal.SIGCONT)
"""


@pytest.mark.chaos
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_wire__gevent(secure: tuple[Server, str, Path], tls: bool) -> None:
    """Greenlets that wait for an answer let the others run, and their timeout holds."""
    server, place, cert = secure
    url = f"rediss://{place}?ssl_ca_certs={cert}" if tls else server.url
    command = [sys.executable, "-W", "ignore", "-c", GEVENT, url, str(server.pid)]
    done: Any = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "GOOD", done.stderr
