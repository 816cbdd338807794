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
        pytest.param("/shop/items/7", "/shop/items/7", "", id="absolute-path"),
        pytest.param("items/7", "/shop/items/7", "", id="relative-path"),
        pytest.param("../shop", "/shop", "", id="dot-segments"),
        pytest.param("?page=3", "/shop/items", "page=3", id="query-only"),
        pytest.param("http://a.example/shop?a=1&a=2", "/shop", "a=1&a=2", id="absolute"),
        pytest.param("HTTP://A.Example:80/shop", "/shop", "", id="RFC9110-4.2.3-normalised"),
        pytest.param("//a.example/shop", "/shop", "", id="scheme-relative"),
        pytest.param("/shop/items/caf%C3%A9%20x", "/shop/items/café x", "", id="path-decoded"),
        pytest.param("/shop?q=%C3%A9%20+", "/shop", "q=%C3%A9%20+", id="query-exact"),
        pytest.param("/shop#top", "/shop", "", id="fragment"),
        pytest.param("http://u:p@a.example/shop", "/shop", "", id="userinfo"),
        pytest.param("/shop/items/a:b/c", "/shop/items/a:b/c", "", id="colon-in-path"),
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


@pytest.mark.parametrize(
    ("path", "location", "belongs"),
    [
        pytest.param("/items", "/items/7", True, id="an-item-of-the-collection"),
        pytest.param("/items/7", "/items", True, id="the-collection-of-the-item"),
        pytest.param("/items/7", "/items/", True, id="empty-segments-do-not-count"),
        pytest.param("/items", "/items?page=2", True, id="another-query"),
        pytest.param("/items", "/itemsets/7", False, id="segment-by-segment"),
        pytest.param("/items/7", "/items/8", False, id="a-neighbour"),
        pytest.param("/login", "/", False, id="the-front-page"),
        pytest.param("/", "/items", False, id="from-the-front-page"),
        pytest.param("/login", "/account", False, id="somewhere-else"),
    ],
)
def test_unsafe_targets__are_of_the_same_resource(path: str, location: str, belongs: bool) -> None:
    """Where the answer points is invalid too when one path contains the other; the root does not count."""
    here = Target.of("http", "a.example", path, "")
    targets = unsafe_targets(here, [("Location", location)], method="POST", status=303)
    assert len(targets) == (2 if belongs else 1)


def test_unsafe_targets__the_script_root_is_no_resource() -> None:
    """Below a mount point the paths are compared without it."""
    here = Target.of("http", "a.example", "/shop/login", "", "/shop")
    assert len(unsafe_targets(here, [("Location", "/shop/")], method="POST", status=303)) == 1
    assert len(unsafe_targets(here, [("Location", "/shop/login/x")], method="POST", status=303)) == 2


def test_unsafe_targets__takes_both_fields_once() -> None:
    """Location and Content-Location both count; a URL named twice is one target."""
    headers = [("Location", "/shop"), ("Content-Location", "items/b"), ("location", "/shop"), ("Location", "?page=2")]
    targets = unsafe_targets(HERE, headers, method="PUT", status=303)
    assert [(target.path, target.query) for target in targets] == [
        ("/shop/items", "page=2"),
        ("/shop", ""),
        ("/shop/items/b", ""),
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
