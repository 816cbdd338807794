"""Which URLs an unsafe method's answer makes invalid."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_rcache.http import Target, unsafe_targets

HERE = Target.of("http", "a.example", "/shop/items", "page=2")


def located(reference: str, field: str = "Location") -> list[Target]:
    """The targets besides the request's own."""
    targets = unsafe_targets(HERE, [(field, reference)], method="POST", status=201)
    assert targets[0] == HERE
    return list(targets[1:])


@pytest.mark.parametrize(
    ("method", "status", "invalidates"),
    [
        *(pytest.param(m, 200, True, id=f"RFC9111-4.4-{m}") for m in ("POST", "PUT", "PATCH", "DELETE")),
        *(pytest.param(m, 200, True, id=f"RFC9111-4.4-unknown-{m}") for m in ("PROPPATCH", "BREW", "get")),
        *(pytest.param(m, 200, False, id=f"RFC9110-9.2.1-{m}") for m in ("GET", "HEAD", "OPTIONS", "TRACE")),
        *(pytest.param("POST", s, True, id=f"RFC9111-4.4-{s}") for s in (200, 201, 204, 302, 303, 399)),
        *(pytest.param("POST", s, False, id=f"RFC9111-4.4-{s}") for s in (100, 400, 404, 409, 412, 500, 503)),
    ],
)
def test_unsafe_targets__is_for_unsafe_methods_without_error(method: str, status: int, invalidates: bool) -> None:
    """A non-error answer to a method not known to be safe invalidates the request's own URL."""
    assert unsafe_targets(HERE, [], method=method, status=status) == ((HERE,) if invalidates else ())


@pytest.mark.parametrize(
    ("reference", "path", "query"),
    [
        pytest.param("/items/7", "/items/7", "", id="absolute-path"),
        pytest.param("7", "/shop/7", "", id="relative-path"),
        pytest.param("../x", "/x", "", id="dot-segments"),
        pytest.param("?page=3", "/shop/items", "page=3", id="query-only"),
        pytest.param("http://a.example/x?a=1&a=2", "/x", "a=1&a=2", id="absolute"),
        pytest.param("HTTP://A.Example:80/x", "/x", "", id="RFC9110-4.2.3-normalised"),
        pytest.param("//a.example/x", "/x", "", id="scheme-relative"),
        pytest.param("http://a.example", "/", "", id="RFC9110-4.2.3-empty-path"),
        pytest.param("/caf%C3%A9%20x", "/café x", "", id="path-decoded"),
        pytest.param("/x?q=%C3%A9%20+", "/x", "q=%C3%A9%20+", id="query-exact"),
        pytest.param("/x#top", "/x", "", id="fragment"),
        pytest.param("http://u:p@a.example/x", "/x", "", id="userinfo"),
        pytest.param("/a:b/c", "/a:b/c", "", id="colon-in-path"),
    ],
)
@pytest.mark.parametrize("field", ["Location", "content-location"])
def test_unsafe_targets__resolves_same_origin_references(reference: str, path: str, query: str, field: str) -> None:
    """RFC 9111 section 4.4: Location and Content-Location, resolved against the request's URL."""
    assert located(reference, field) == [Target("http", "a.example", path, query)]


@pytest.mark.parametrize(
    "reference",
    [
        *("http://b.example/x", "https://a.example/x", "http://a.example:8080/x", "//b.example/x"),
        *("http://a.example.b.example/x", "http://a.example@b.example/x", "http://b.example\\@a.example/x"),
        *("mailto:a@a.example", "http://[::1/x", "http://a.example:port/x", "http://a.example:99999/x"),
        *("", "#top", "  ", "javascript:alert(1)"),
    ],
)
def test_unsafe_targets__never_reaches_another_origin(reference: str) -> None:
    """RFC 9111 section 4.4: other origins, and what is no URL at all, are left alone."""
    assert located(reference) == []


def test_unsafe_targets__takes_both_fields_once() -> None:
    """Location and Content-Location both count; a URL named twice is one target."""
    headers = [("Location", "/a"), ("Content-Location", "/b"), ("location", "/a"), ("Location", "?page=2")]
    targets = unsafe_targets(HERE, headers, method="PUT", status=303)
    assert [(target.path, target.query) for target in targets] == [
        ("/shop/items", "page=2"),
        ("/a", ""),
        ("/b", ""),
    ]


@pytest.mark.parametrize(
    ("scheme", "host", "normal"),
    [
        ("HTTP", "A.Example:80", ("http", "a.example")),
        ("https", "a.example:443", ("https", "a.example")),
        ("http", "a.example:443", ("http", "a.example:443")),
        ("http", "[2001:DB8::1]:80", ("http", "[2001:db8::1]")),
        ("http", "[::1]:8080", ("http", "[::1]:8080")),
        ("http", "a.example:", ("http", "a.example")),
    ],
)
def test_target__is_normalised(scheme: str, host: str, normal: tuple[str, str]) -> None:
    """RFC 9110 section 4.2.3: case and default port make no other origin."""
    assert Target.of(scheme, host, "", "q=A") == Target(*normal, "/", "q=A")


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example\\@shop.example", "evil@shop.example", "shop.example/evil", "shop.example?evil"),
        *("shop.example#evil", "shop.example evil", "[evil", "evil]", "a[::1]", "[::1]a", "a:b:c", "shop.example:port"),
    ],
)
def test_target__of_a_host_that_is_none(host: str) -> None:
    """Programs differ in which host they see there; keyed as one, it would fill that host's entries."""
    with pytest.raises(ValueError, match=r"host|[Pp]ort"):
        Target.of("http", host, "/", "")


@given(st.text(max_size=40), st.sampled_from(["", "http://", "//", "/", "http://a.example"]))
def test_unsafe_targets__never_raises_nor_leaves_the_origin(text: str, start: str) -> None:
    """Arbitrary text in Location names this origin or nothing."""
    assert all(target[:2] == HERE[:2] for target in located(start + text))
