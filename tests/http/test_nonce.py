"""Nonces that a body repeats."""

from __future__ import annotations

import pytest

from flask_rcache.http import repeats_nonce

CSP = "Content-Security-Policy"


@pytest.mark.parametrize(
    ("headers", "body", "repeats"),
    [
        pytest.param([(CSP, "script-src 'nonce-abc'")], b'<script nonce="abc">', True, id="html"),
        pytest.param([(CSP.lower(), "script-src 'NONCE-abc'")], b"nonce=abc>", True, id="case"),
        pytest.param([(CSP + "-Report-Only", "style-src 'nonce-abc'")], b"nonce='abc'", True, id="report-only"),
        pytest.param([(CSP, "x 'nonce-a'"), (CSP, "y 'nonce-bcd'")], b"bcd", True, id="second-line"),
        pytest.param([(CSP, "x 'nonce-q+/='")], b'{"nonce": "q+\\/="}', True, id="json"),
        pytest.param([(CSP, "x 'nonce-q+/='")], b"nonce=q%2B%2F%3D", True, id="url"),
        pytest.param([(CSP, "x 'nonce-q+=='")], b"nonce=q&#43;&#61;&#61;", True, id="escaped"),
        pytest.param([("X-Policy", "script-src 'nonce-abc'")], b"nonce=abc", True, id="another-name"),
        pytest.param([("Link", "</a.js>; nonce=abcdefgh")], b"<script nonce=abcdefgh>", True, id="another-syntax"),
        pytest.param([("X-Nonce", "abcdef12")], b'{\\"nonce\\": \\"abcdef12\\"}', True, id="another-in-json"),
        pytest.param([("X-Nonce", "abcdef12")], b"<script nonce=abcdef13>", False, id="another-one"),
        pytest.param([("Link", "</a-nonce>")], b"nonce = none", False, id="the-word"),
        pytest.param([(CSP, "x 'nonce-abc'"), ("Content-Encoding", "gzip")], b"?", True, id="not-to-be-read"),
        pytest.param([(CSP, "script-src 'nonce-abc'")], b"<script>", False, id="not-in-the-body"),
        pytest.param([(CSP, "script-src 'self'")], b"nonce", False, id="no-nonce"),
        pytest.param([], b"nonce-abc", False, id="no-policy"),
        pytest.param([("Content-Encoding", "gzip")], b"?", False, id="no-policy-and-encoded"),
    ],
)
def test_repeats_nonce__finds_what_is_for_one_response(
    headers: list[tuple[str, str]], body: bytes, repeats: bool
) -> None:
    """A body that repeats a nonce of its own headers is no one else's."""
    assert repeats_nonce(headers, body) is repeats
