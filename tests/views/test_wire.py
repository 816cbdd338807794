"""On the wire: behind gunicorn and waitress, as a gateway to an origin that the test controls."""

from __future__ import annotations

import http.client
import itertools
import re
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import formatdate

import pytest

from tests.processes import Process, free_port, scratch_directory
from tests.servers import Gunicorn
from tests.views.gateway import Origin

_PATHS = (f"/{number}" for number in itertools.count(1))


@dataclass(frozen=True)
class Wire:
    """An answer as its bytes: the status, the header lines, and all that came until the server closed."""

    status: int
    lines: list[tuple[str, str]]
    body: bytes

    def __getitem__(self, name: str) -> str | None:
        values = self.all(name)
        assert len(values) <= 1, f"{name} is repeated: {self.lines}"
        return values[0] if values else None

    def all(self, name: str) -> list[str]:
        """The values of a field, line by line."""
        return [value for field, value in self.lines if field.lower() == name.lower()]


class Gateway:
    """A running gateway and its origin."""

    def __init__(self, port: int, origin: Origin, server: str) -> None:
        self.port, self.origin, self.server = port, origin, server

    def send(self, path: str, method: str = "GET", **headers: str) -> Wire:
        """One request on a connection of its own, read to the last byte."""
        fields = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(
                f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{fields}\r\n".encode()
            )
            data = b"".join(iter(lambda: connection.recv(65536), b""))
        head, _, body = data.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        split = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        return Wire(int(status.split()[1]), split, body)


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    """The server behind the gateways."""
    with Origin() as server:
        yield server


@pytest.fixture(scope="module", params=["gunicorn", "waitress"])
def gateway(request: pytest.FixtureRequest, origin: Origin) -> Iterator[Gateway]:
    """The gateway under each server."""
    if request.param == "gunicorn":
        with Gunicorn("tests.views.gateway:create_app()", threads=4, env={"ORIGIN_PORT": str(origin.port)}) as web:
            yield Gateway(web.port, origin, request.param)
        return
    process, port = _waitress(origin)
    yield Gateway(port, origin, request.param)
    process.stop()


def _waitress(origin: Origin) -> tuple[Process, int]:
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "waitress",
        f"--listen=127.0.0.1:{port}",
        "--call",
        "tests.views.gateway:create_app",
    ]
    env = {"ORIGIN_PORT": str(origin.port), "STRICT": "1", "PYTHONPATH": "."}
    process = Process(command, log_path=scratch_directory("waitress") / "log", env=env)

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    process.wait_ready(answers, timeout=40)
    return process, port


@pytest.fixture
def path() -> str:
    """A URL that no other test uses."""
    return next(_PATHS)


def test_wire__a_hit_repeats_the_miss(gateway: Gateway, path: str) -> None:
    """The same status, body and fields; one Date, one length, repeated lines repeated; the origin asked once."""
    links = [("Link", "</a>; rel=x"), ("Link", "</b>; rel=y")]
    gateway.origin.says(path, b"hello" * 100, *links, ("Content-Type", "text/x-own"), ("Vary", "Accept"))
    miss, hit = gateway.send(path), gateway.send(path)
    assert (miss["X-Cache"], hit["X-Cache"]) == ("MISS", "HIT")
    assert (miss.status, miss.body) == (hit.status, hit.body) == (200, b"hello" * 100)
    for answer in (miss, hit):
        assert answer["Content-Length"] == "500"
        assert answer.all("Link") == [value for _, value in links]
        assert (answer["Content-Type"], answer["Vary"]) == ("text/x-own", "Accept")
        assert answer["Date"]
        assert answer["ETag"] == miss["ETag"]
    assert (miss["Age"], hit["Age"]) == (None, "0")
    assert len(gateway.origin.asked(path)) == 1


def test_wire__hop_by_hop_fields(gateway: Gateway, path: str) -> None:
    """Nothing that was meant for one connection is replayed on another."""
    hops = [
        ("Connection", "X-Hop, keep-alive"),
        ("X-Hop", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Authenticate", "x"),
    ]
    gateway.origin.says(path, b"hello", *hops)
    gateway.send(path)
    hit = gateway.send(path)
    assert hit["X-Cache"] == "HIT"
    assert hit["Proxy-Authenticate"] is None
    assert hit["Keep-Alive"] is None
    assert [value.lower() for value in hit.all("Connection")] == ["close"]
    if gateway.server == "gunicorn":  # the other gateway had to drop Connection, so that the cache could not see it
        assert hit["X-Hop"] is None


def test_wire__age_and_date(gateway: Gateway, path: str) -> None:
    """The origin's age goes on; a response that was old when it came is kept for the rest of its life only."""
    gateway.origin.says(path, b"x", ("Age", "40"), ("Cache-Control", "max-age=50"))
    assert "; stored; ttl=10;" in (gateway.send(path)["Cache-Status"] or "")
    assert int(gateway.send(path)["Age"] or 0) in (40, 41, 42)
    gateway.origin.says(
        f"{path}/old", b"x", ("Date", formatdate(time.time() - 60, usegmt=True)), ("Cache-Control", "max-age=50")
    )
    assert [gateway.send(f"{path}/old")["X-Cache"] for _ in range(2)] == ["MISS", "MISS"]


def test_wire__304(gateway: Gateway, path: str) -> None:
    """No body and no length on a miss and on a hit, the fields that a 304 needs, and the origin saw no condition."""
    gateway.origin.says(
        path, b"hello", ("ETag", '"v1"'), ("Cache-Control", "max-age=60"), ("Vary", "Accept"), ("X-Own", "1")
    )
    for verdict in ("MISS", "HIT", "HIT"):
        answer = gateway.send(path, If_None_Match='"v0", W/"v1"', If_Modified_Since="Sat, 01 Jan 2000 00:00:00 GMT")
        assert (answer.status, answer.body, answer["X-Cache"]) == (304, b"", verdict)
        assert (answer["ETag"], answer["Cache-Control"], answer["Vary"]) == ('"v1"', "max-age=60", "Accept")
        assert answer["Content-Length"] is None
        assert answer["Transfer-Encoding"] is None
        assert answer["Content-Type"] is None
    assert [set(asked) & {"if-none-match", "if-modified-since"} for asked in gateway.origin.asked(path)] == [set()]
    assert gateway.send(path, If_None_Match='"v2"').body == b"hello"


def test_wire__206_and_416(gateway: Gateway, path: str) -> None:
    """Ranges are cut from the whole, with their own length; the origin was asked for the whole."""
    gateway.origin.says(path, b"0123456789", ("ETag", '"v1"'), ("Content-Type", "text/plain"))
    for verdict in ("MISS", "HIT"):
        part = gateway.send(path, Range="bytes=2-5", If_Range='"v1"')
        assert (part.status, part.body, part["X-Cache"]) == (206, b"2345", verdict)
        assert (part["Content-Range"], part["Content-Length"]) == ("bytes 2-5/10", "4")
    beyond = gateway.send(path, Range="bytes=10-")
    assert (beyond.status, beyond.body, beyond["Content-Range"]) == (416, b"", "bytes */10")
    assert beyond["Content-Length"] == "0"
    assert beyond["ETag"] is None
    assert gateway.send(path, Range="bytes=2-5", If_Range='"v0"').status == 200
    assert ["range" in asked for asked in gateway.origin.asked(path)] == [False]


def test_wire__head(gateway: Gateway, path: str) -> None:
    """HEAD on a hit: the GET's fields and length, and not one byte of body."""
    gateway.origin.says(path, b"hello" * 9)
    whole, head = gateway.send(path), gateway.send(path, "HEAD")
    assert (head.status, head["X-Cache"], head.body) == (200, "HIT", b"")
    assert (head["Content-Length"], head["ETag"]) == ("45", whole["ETag"])


def test_wire__framing_survives_on_one_connection(gateway: Gateway, path: str) -> None:
    """All kinds of answers one after another on a kept connection: each ends where its headers say."""
    gateway.origin.says(path, b"0123456789", ("ETag", '"v1"'))
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)
    asks: list[tuple[str, dict[str, str], int, bytes]] = [
        ("GET", {}, 200, b"0123456789"),
        ("GET", {"If-None-Match": "*"}, 304, b""),
        ("HEAD", {}, 200, b""),
        ("GET", {"Range": "bytes=0-1"}, 206, b"01"),
        ("GET", {"Range": "bytes=99-"}, 416, b""),
        ("HEAD", {"If-None-Match": '"v1"'}, 304, b""),
        ("GET", {"Authorization": "x"}, 200, b"0123456789"),
        ("GET", {}, 200, b"0123456789"),
    ]
    for method, headers, status, body in asks * 2:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (status, body), (method, headers)
    connection.close()


def test_wire__cookies(gateway: Gateway, path: str) -> None:
    """Both cookies of a response reach their client, and nobody else."""
    gateway.origin.says(path, b"x", ("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2; Path=/"))
    for _ in range(2):
        answer = gateway.send(path)
        assert answer.all("Set-Cookie") == ["a=1; Path=/", "b=2; Path=/"]
        assert (answer["X-Cache"], answer["Cache-Status"]) == (
            "MISS",
            f'rcache; fwd=uri-miss; key="{answer["X-Cache-Key"]}"; detail=SET-COOKIE',
        )
    gateway.origin.says(path, b"x")
    assert gateway.send(path).all("Set-Cookie") == []


def test_wire__a_chunked_origin(gateway: Gateway, path: str) -> None:
    """A body that came in chunks is stored whole and sent with its length."""
    gateway.origin.says(path, b"chunk" * 50, chunks=7)
    for verdict in ("MISS", "HIT"):
        answer = gateway.send(path)
        assert (answer["X-Cache"], answer.body, answer["Content-Length"]) == (verdict, b"chunk" * 50, "250")
        assert answer["Transfer-Encoding"] is None


@pytest.mark.parametrize(("status", "body"), [(204, b""), (301, b"moved"), (404, b"none"), (410, b"gone"), (200, b"")])
def test_wire__other_statuses(gateway: Gateway, path: str, status: int, body: bytes) -> None:
    """Stored and sent again as they were; a 204 has no body and no length."""
    gateway.origin.says(path, body, ("Location", "/there"), status=status)
    miss, hit = gateway.send(path), gateway.send(path)
    assert (miss["X-Cache"], hit["X-Cache"]) == ("MISS", "HIT")
    assert (miss.status, miss.body) == (hit.status, hit.body) == (status, body)
    assert miss["Content-Length"] == hit["Content-Length"] == (None if status == 204 else str(len(body)))
    assert miss["Content-Type"] == hit["Content-Type"]
    assert hit["Location"] == "/there"


def test_wire__an_encoded_origin(gateway: Gateway, path: str) -> None:
    """What the origin encoded is kept for those who can read it, if it says so, and not kept at all otherwise."""
    gateway.origin.says(path, b"\x1f\x8bnot-really", ("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding"))
    assert [gateway.send(path, Accept_Encoding="gzip")["X-Cache"] for _ in range(2)] == ["MISS", "HIT"]
    assert gateway.send(path, Accept_Encoding="identity")["X-Cache"] == "MISS"
    gateway.origin.says(f"{path}/bare", b"\x1f\x8bnot-really", ("Content-Encoding", "gzip"))
    assert [gateway.send(f"{path}/bare")["X-Cache"] for _ in range(2)] == ["MISS", "MISS"]


def test_wire__a_write_invalidates(gateway: Gateway, path: str) -> None:
    """A POST through the gateway, and its Location."""
    gateway.origin.says(path, b"x")
    gateway.origin.says(f"{path}/new", b"x")
    for each in (path, f"{path}/new"):
        assert [gateway.send(each)["X-Cache"] for _ in range(2)] == ["MISS", "HIT"]
    gateway.origin.says(path, b"made", ("Location", f"{path}/new"), status=201)
    assert gateway.send(path, "POST", Content_Length="0").status == 201
    for each in (path, f"{path}/new"):
        assert gateway.send(each)["X-Cache"] == "MISS"


_ITEM = r'(?:"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"|[A-Za-z*][!#$%&\'*+.^_`|~0-9A-Za-z:/-]*|-?[0-9]{1,15})'
_MEMBER = rf"{_ITEM}(?:; *[a-z*][a-z0-9_.*-]*(?:={_ITEM})?)*"
_LIST = re.compile(rf"{_MEMBER}(?:[ \t]*,[ \t]*{_MEMBER})*")


def test_wire__cache_status_is_a_structured_list(gateway: Gateway, path: str) -> None:
    """RFC 9211: every answer has the field, in the grammar of RFC 9651, our member last and only once."""
    gateway.origin.says(path, b"x", ("Cache-Status", '"far away"; hit; ttl=9'), ("ETag", '"v"'))
    gateway.origin.says(f"{path}?q=%22%5C", b"x")
    gateway.origin.says(f"{path}/private", b"x", ("Cache-Control", "private"))
    answers = [
        gateway.send(path),
        gateway.send(path),
        gateway.send(path, If_None_Match='"v"'),
        gateway.send(path, Range="bytes=0-0"),
        gateway.send(path, Authorization="x"),
        gateway.send(f"{path}?q=%22%5C"),
        gateway.send(f"{path}/private"),
        gateway.send(path, "HEAD"),
        gateway.send(path, "POST", Content_Length="0"),
    ]
    for answer in answers:
        value = answer["Cache-Status"]
        assert value is not None
        assert _LIST.fullmatch(value), value
        assert value.rpartition(", ")[2].startswith("rcache; ")
        assert value.count("rcache; ") == 1
    assert (answers[0]["Cache-Status"] or "").startswith('"far away"; hit; ttl=9, rcache; fwd=uri-miss; stored;')
    assert (answers[1]["Cache-Status"] or "").startswith("rcache; hit; ttl=")
