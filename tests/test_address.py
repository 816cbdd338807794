"""The URLs of the store: what each kind says, and one clear sentence for what is none."""

from __future__ import annotations

import pytest

from flask_rcache.config.address import parse_address
from flask_rcache.config.settings import load_settings
from flask_rcache.errors import ConfigError
from flask_rcache.stores.redis.topology import endpoint_of


def parsed(url: str) -> tuple[object, ...]:
    """What a URL says, without its options."""
    address = parse_address(url, "RCACHE_URL")
    nodes = ",".join(map(str, address.nodes)) or address.path
    return address.kind, nodes, address.service, address.database, address.username, address.password, address.is_tls


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://db", ("server", "db:6379", "", 0, None, None, False)),
        ("redis://:p%2Fw@db:1/3", ("server", "db:1", "", 3, None, "p/w", False)),
        ("redis://", ("server", "localhost:6379", "", 0, None, None, False)),
        ("rediss://app:pw@[::1]:6380/?db=2", ("server", "[::1]:6380", "", 2, "app", "pw", True)),
        ("unix://app:pw@/run/r.sock?db=4", ("server", "/run/r.sock", "", 4, "app", "pw", False)),
        (
            "redis+sentinel://app:pw@s1,s2:26380,[fe80::1]/shop/1",
            ("sentinel", "s1:26379,s2:26380,[fe80::1]:26379", "shop", 1, "app", "pw", False),
        ),
        ("rediss+sentinel://s1/my%20master", ("sentinel", "s1:26379", "my master", 0, None, None, True)),
        ("redis+cluster://n1,n2:7001/0", ("cluster", "n1:6379,n2:7001", "", 0, None, None, False)),
        ("rediss+cluster://:pw@n1", ("cluster", "n1:6379", "", 0, None, "pw", True)),
    ],
)
def test_parse_address__of_each_kind(url: str, expected: tuple[object, ...]) -> None:
    """Hosts with their usual ports, user and password unquoted, service and database."""
    assert parsed(url) == expected
    assert "pw" not in repr(parse_address(url, "RCACHE_URL"))


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://db", "must begin with memory://"),
        ("sentinel://db/shop", "must begin with memory://"),
        ("redis:db", "must begin with memory://"),
        ("redis://db:port", "is not a URL"),
        ("redis://db:0", "is not a URL"),
        ("redis://db:66000", "is not a URL"),
        ("redis://[::1", "is not a URL"),
        ("redis://app:s3cr3t/x@db", "is not a URL"),
        ("redis://a:1,b:2/0", r"names several hosts.*redis\+sentinel://a:1,b:2/<service>.*redis\+cluster://a:1,b:2"),
        ("redis://db/first", "must have the number of a database"),
        ("redis://db/0/1", "a path of too many parts"),
        ("redis+sentinel://s1,s2", r"names no service.*redis\+sentinel://host:26379/mymaster"),
        ("redis+sentinel://s1:26379/", "names no service"),
        ("redis+sentinel://s1/shop/x", "must have the number of a database"),
        ("redis+sentinel:///shop", "is not a URL"),
        ("redis+cluster://n1/2", "a cluster has database 0 alone.*RCACHE_PREFIX"),
        ("redis+cluster://n1?db=2", "a cluster has database 0 alone"),
        ("redis+cluster://n1,", "is not a URL"),
    ],
)
def test_parse_address__one_sentence_for_what_is_none(url: str, sentence: str) -> None:
    """What is wrong and what to write instead is said when the app starts, and shows no password."""
    with pytest.raises(ConfigError, match=sentence) as raised:
        load_settings({"RCACHE_URL": url}, {})
    assert "s3cr3t" not in str(raised.value)
    assert "RCACHE_URL in app.config" in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("socket_timeout", 5, "set RCACHE_TIMEOUT"),
        ("retry_on_timeout", True, "sent twice"),
        ("retry", object(), "sent twice"),
        ("decode_responses", True, "reads replies itself"),
        ("protocol", 2, "reads replies itself"),
        ("host", "db", "stands in RCACHE_URL"),
        ("db", 3, "stands in RCACHE_URL"),
        ("ssl", True, "write rediss://"),
        ("ssl_ca_certs", "/ca.pem", "does not use TLS"),
        ("max_connections", 5, "set RCACHE_MAX_CONNECTIONS"),
        ("health_check_interval", 5, "heartbeat"),
        ("credential_provider", "iam", "get_credentials"),
        ("credentials", "iam", "does not pass on; it takes client_name"),
    ],
)
def test_endpoint_of__refuses_options_that_break_a_promise(name: str, value: object, sentence: str) -> None:
    """Each is named, with what to do instead, when the app starts."""
    with pytest.raises(ConfigError, match=f"RCACHE_REDIS_OPTIONS .*{name}.*{sentence}|{name} in RCACHE_.*{sentence}"):
        endpoint_of(parse_address("redis://db", "RCACHE_URL"), timeout=1.0, options={name: value})


def test_endpoint_of__takes_the_options_of_the_driver() -> None:
    """Those of TLS, of the client's name and of the credentials reach each connection; ours stay what they are."""
    address = parse_address("rediss://db:1/3", "RCACHE_URL")
    options = {"ssl_check_hostname": False, "client_name": "shop", "socket_keepalive": True}
    made = endpoint_of(address, timeout=0.5, options=options).connection()
    assert (made.client_name, made.db, made.socket_timeout) == ("shop", 3, 0.5)
    with pytest.raises(ConfigError, match="a user or a password, and RCACHE_REDIS_OPTIONS a credential_provider"):
        endpoint_of(parse_address("redis://u:p@db", "x"), timeout=1.0, options={"credential_provider": _Provider()})


class _Provider:
    def get_credentials(self) -> tuple[str]:
        return ("pw",)


def test_options__in_the_environment_are_json() -> None:
    """What is none is refused with an example, and the text, which may have a password in it, is not shown."""
    settings = load_settings({}, {"RCACHE_URL": "redis://db", "RCACHE_REDIS_OPTIONS": '{"client_name": "shop"}'})
    assert settings.redis_options == {"client_name": "shop"}
    for text in ('{"password": s3cr3t', '["s3cr3t"]', '"s3cr3t"'):
        with pytest.raises(ConfigError, match="RCACHE_SENTINEL_OPTIONS must be a dict") as raised:
            load_settings({}, {"RCACHE_SENTINEL_OPTIONS": text})
        assert "s3cr3t" not in str(raised.value)
    with pytest.raises(ConfigError, match="must be a dict of options for redis-py, not tuple"):
        load_settings({"RCACHE_REDIS_OPTIONS": ("a", "b")}, {})
