"""Ways to a server: TLS, users and passwords, database numbers, sockets; and secrets that stay secret."""

from __future__ import annotations

import datetime as dt
import ipaddress
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from flask import Flask

from flask_rcache import CacheManager, RCache
from flask_rcache.errors import ConfigError, StoreUnavailableError
from tests.processes import free_port
from tests.servers import Server
from tests.stores.kit import Kit, redis_store

Caches = Callable[..., CacheManager]


def certificate(directory: Path) -> tuple[Path, Path]:
    """A self-signed certificate for the loopback interface, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    alternatives = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = directory / "cert.pem", directory / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


def works(cache: CacheManager) -> bool:
    loaded = cache.fetch("search", "a", lambda: {"x": "y" * 100_000})
    return cache.is_available and cache.get("search", "a") == loaded and cache.invalidate_type("search") == 1


def test_wire__tls(private_server: Callable[..., Server], caches: Caches, tmp_path: Path) -> None:
    """rediss:// works with the server's certificate named, and refuses a server that it cannot check."""
    cert, key = certificate(tmp_path)
    port = free_port()
    private_server(
        "redis",
        tls_port=port,
        tls_cert_file=str(cert),
        tls_key_file=str(key),
        tls_ca_cert_file=str(cert),
        tls_auth_clients="no",
    )
    assert works(caches(f"rediss://localhost:{port}/0?ssl_ca_certs={cert}"))
    assert works(caches(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={cert}"))
    unchecked = caches(f"rediss://localhost:{port}/0")
    assert unchecked.get("search", "a") is None
    assert not unchecked.is_available
    plain = caches(f"redis://localhost:{port}/0")
    assert plain.fetch("search", "a", lambda: 1) == 1
    assert not plain.is_available


def test_wire__user_and_password(private_server: Callable[..., Server], caches: Caches) -> None:
    """An ACL user that may reach the cache's own keys and channel only; special characters in the password."""
    server = private_server()
    server.client().acl_setuser(
        "app",
        enabled=True,
        passwords=["+p@ss:w/rd%"],
        keys=["cache:*", "cache~*"],
        channels=["cache~*"],
        commands=["+@all", "-@admin", "-@dangerous", "+info"],
    )
    assert works(caches(f"redis://app:p%40ss%3Aw%2Frd%25@127.0.0.1:{server.port}/0"))


def test_wire__acl_without_info(private_server: Callable[..., Server], caches: Caches, tmp_path: Path) -> None:
    """Without INFO a restart from an old snapshot could not be told: the cache stays away and says what to grant."""
    acl = tmp_path / "users.acl"
    acl.write_text(
        "user default on nopass ~* &* +@all\n"
        "user app on nopass ~cache* &* +@all -@admin -@dangerous\n"
        "user granted on nopass ~cache* &* +@all -@admin -@dangerous +info\n"
    )
    server = private_server("redis", save="3600 1000000", aclfile=str(acl))
    refused, granted = (caches(f"redis://{user}:x@127.0.0.1:{server.port}/0") for user in ("app", "granted"))
    warm = redis_store(f"redis://app:x@127.0.0.1:{server.port}/0", cold=False)
    assert refused.fetch("search", "a", lambda: "loaded") == "loaded"
    assert not refused.is_available
    assert "+info" in str(refused.store.trouble)
    assert Kit(warm).value("cache:search:a") is None
    granted.fetch("search", "a", lambda: "old", tags=["eu"])
    server.client().save()
    granted.invalidate_tags("eu")
    server.kill()
    server.restart()
    assert server.client().exists("cache:search:a") == 1
    assert granted.get("search", "a") is None
    assert works(granted)
    warm.close()


def test_wire__password_only(private_server: Callable[..., Server], caches: Caches) -> None:
    """requirepass, over TCP and over the unix socket."""
    server = private_server(requirepass="secret")
    assert works(caches(server.url))
    assert works(caches(server.socket_url))


def test_wire__database_number(redis_server: Server, caches: Caches) -> None:
    """The number in the URL is the database used, also over a unix socket."""
    root = f"redis://127.0.0.1:{redis_server.port}"
    caches(f"{root}/3").set("search", "a", 3)
    assert caches(f"{root}/0").get("search", "a") is None
    assert caches(f"{redis_server.socket_url}?db=3").get("search", "a") == 3
    assert redis_server.client(db=3).exists("cache:search:a") == 1


@pytest.mark.parametrize("option", ["bogus=1", "ssl_cert_reqs=none", "timeout=20", "socket_timeout=abc", "db=first"])
def test_wire__an_option_that_no_connection_takes(option: str) -> None:
    """It ends the start and names the setting; later it would be an error of each request."""
    app = Flask("options")
    app.config["RCACHE_URL"] = f"redis://app:s3cr3t@127.0.0.1:{free_port()}/0?{option}"
    with pytest.raises(ConfigError, match="RCACHE_URL") as raised:
        RCache(app)
    assert "s3cr3t" not in str(raised.value)
    assert "rcache" not in app.extensions


def test_wire__the_protocol_is_the_engines(redis_server: Server, caches: Caches) -> None:
    """With `protocol=2` in the URL values are found again: the replies are those that the engine reads."""
    assert works(caches(f"{redis_server.url}?protocol=2"))


def test_wire__location_hides_the_password(caplog: pytest.LogCaptureFixture) -> None:
    """Neither the location, nor the error, nor its log line shows it, wherever it stands in the URL."""
    port = free_port()
    for url in (f"redis://app:s3cr3t@127.0.0.1:{port}/0", f"redis://127.0.0.1:{port}/0?password=s3cr3t"):
        kit = Kit(redis_store(url))
        assert "s3cr3t" not in kit.store.location
        assert str(port) in kit.store.location
        with caplog.at_level(logging.DEBUG), pytest.raises(StoreUnavailableError) as raised:
            kit.read(kit.key())
        error: BaseException | None = raised.value
        while error is not None:
            assert "s3cr3t" not in str(error)
            error = error.__cause__
        assert "s3cr3t" not in caplog.text
        kit.store.close()


def test_exchange__interrupted_reply_is_nobody_elses(redis_server: Server) -> None:
    """A reader broken off between question and answer leaves no reply behind for the next one."""
    import signal

    class Broken(BaseException):
        pass

    def break_off(*_: object) -> None:
        raise Broken

    kit = Kit(redis_store(redis_server.url, timeout=5.0))

    def read_until_broken_off() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        kit.read(kit.key("a"))

    for name in "ab":
        kit.load(kit.key(name), name.encode())
    kit.store.read(kit.key("a"), tuple)
    client = redis_server.client()
    previous = signal.signal(signal.SIGALRM, break_off)
    try:
        client.execute_command("CLIENT", "PAUSE", "1500", "ALL")
        with pytest.raises(Broken):
            read_until_broken_off()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert [kit.value(kit.key(name)) for name in "bab"] == [b"b", b"a", b"b"]
    kit.store.close()


def test_exchange__threads_share_the_pool(redis_server: Server) -> None:
    """Many threads at once each get their own answers, on no more connections than threads."""
    import threading

    kit = Kit(redis_store(redis_server.url))
    for number in range(20):
        kit.load(kit.key(f"k{number}"), b"%d" % number)
    wrong: list[int] = []

    def read(start: int) -> None:
        for step in range(200):
            number = (start + step) % 20
            if kit.value(kit.key(f"k{number}")) != b"%d" % number:
                wrong.append(number)

    before = len(redis_server.client().client_list())
    readers = [threading.Thread(target=read, args=(number,)) for number in range(8)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert len(redis_server.client().client_list()) - before <= 10
    kit.store.close()
