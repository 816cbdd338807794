"""The examples of the documentation's page on the admin API: every `curl` is run, and its answer is the page's.

A `console` block with a `curl` is followed by its answer: a `json` block (status 200), or an `http` block (status line,
some of the headers, the body). In the JSON, `"…"` stands for any value, and as a name for further members.
"""

from __future__ import annotations

import json
import re
import shlex
import string
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from flask.testing import FlaskClient

from flask_rcache.admin.api import CALLS
from tests.processes import ROOT

PAGE = ROOT / "docs" / "admin.md"
ANY = "…"


class Block(NamedTuple):
    """One fenced block of a page."""

    line: int
    language: str
    text: str


def blocks_of(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found = re.finditer(r"^```(\w+)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    return [Block(page[: match.start()].count("\n") + 2, match[1], match[2]) for match in found]


def curl(client: FlaskClient, command: str, variables: dict[str, str]) -> Any:
    """Run a curl command on a test client; of its options those that the page uses."""
    words = iter(shlex.split(string.Template(command).substitute(variables))[1:])
    headers: dict[str, str] = {}
    options: dict[str, Any] = {"method": "GET"}
    url = ""
    for word in words:
        if word == "-X":
            options["method"] = next(words)
        elif word == "-H":
            name, _, value = next(words).partition(": ")
            headers[name] = value
        elif word == "--json":
            options |= {"method": "POST", "data": next(words), "content_type": "application/json"}
        else:
            assert not word.startswith("-"), f"the test does not know curl {word}"
            assert not url, f"two URLs: {url} {word}"
            url = word
    parts = urlsplit(url)
    assert parts.netloc == "localhost:5000"
    return client.open(f"{parts.path}?{parts.query}", headers=headers, **options)


def matches(expected: Any, found: Any) -> bool:
    """Whether an answer is what the page shows."""
    if expected == ANY:
        return True
    if isinstance(expected, dict) and isinstance(found, dict):
        more = ANY in expected
        names = expected.keys() - {ANY}
        same = names <= found.keys() if more else names == found.keys()
        return same and all(matches(expected[name], found[name]) for name in names)
    if isinstance(expected, list) and isinstance(found, list):
        return len(expected) == len(found) and all(map(matches, expected, found))
    return type(expected) is type(found) and bool(expected == found)


def check(shown: Block, response: Any) -> None:
    """Compare an answer with what the page shows."""
    body, where = shown.text, f"line {shown.line}: {response.status} {response.text}"
    if shown.language == "http":
        head, _, body = shown.text.partition("\n\n")
        status, *headers = head.splitlines()
        assert status == f"HTTP/1.1 {response.status}", where
        for header in headers:
            name, _, value = header.partition(": ")
            assert response.headers[name] == value, where
    else:
        assert (shown.language, response.status_code) == ("json", 200), where
    assert matches(json.loads(body), response.get_json()), where


def run_page(page: str) -> list[str]:
    """Run a page: its Python, and its `curl` commands on the `app` and with the `token` that the Python makes.

    Returns:
        The commands.
    """
    namespace: dict[str, Any] = {"__name__": "page"}
    commands: list[str] = []
    blocks = iter(blocks_of(page))
    for block in blocks:
        if block.language == "python":
            exec(compile("\n" * (block.line - 1) + block.text, "page", "exec"), namespace)
        for command in re.findall(r"^\$ (curl .*)$", block.text, re.MULTILINE) if block.language == "console" else ():
            commands.append(command)
            variables = {"AUTH": f"Authorization: Bearer {namespace['token']}"}
            check(next(blocks), curl(namespace["app"].test_client(), command, variables))
    return commands


def test_docs__the_calls_answer_as_the_page_says() -> None:
    """Each example is run, and each call is among the examples or is the overview, which is too long for one."""
    commands = run_page(PAGE.read_text(encoding="utf-8"))
    shown = {re.sub(r"/(keys|invalidate)/.+", r"/\1/", urlsplit(each.split()[-1].strip('"')).path) for each in commands}
    calls = {f"/api/cache{rule.partition('<')[0]}" for rule in CALLS}
    assert calls - shown == {"/api/cache/overview", "/api/cache/clear"}


def test_docs__the_page_lists_every_call() -> None:
    """What there is, is in the table."""
    text = PAGE.read_text(encoding="utf-8")
    for rule, methods in CALLS.items():
        path = rule.replace("<path:part>", "<key>").replace("<part>", "<type>")
        for method in methods:
            assert re.search(rf"`{method} {re.escape(path)}[`?]", text), (method, path)


SMALL = """
```python
from tests.admin.kit import make_admin
from tests.admin.tokens import token as make_token
app, token = make_admin().flask, make_token()
```

```console
$ curl -X POST -H "$AUTH" http://localhost:5000/api/cache/clear
```

```json
%s
```
"""


@pytest.mark.parametrize(
    ("answer", "fits"),
    [
        ('{"status": "success", "deleted_keys": 0, "message": "Cache invalidated successfully"}', True),
        ('{"status": "success", "deleted_keys": 0, "message": "…"}', True),
        ('{"status": "success", "…": "…"}', True),
        ('{"status": "success", "deleted_keys": 0}', False),
        ('{"status": "success", "deleted_keys": 0, "message": "…", "more": 1}', False),
        ('{"status": "success", "deleted_keys": 1, "…": "…"}', False),
        ('{"status": "success", "deleted_keys": false, "…": "…"}', False),
        ('{"status": "success", "deleted": "…", "…": "…"}', False),
    ],
)
def test_docs__a_wrong_example_fails(answer: str, fits: bool) -> None:
    """The check can fail: at a value, a type, a member too many or too few."""
    if fits:
        assert len(run_page(SMALL % answer)) == 1
    else:
        with pytest.raises(AssertionError, match="line 13"):
            run_page(SMALL % answer)


def test_docs__an_answer_of_another_status_fails() -> None:
    """An error is not taken for a success whose body happens to fit."""
    with pytest.raises(AssertionError):
        run_page(SMALL.replace("/clear\n", "/nothing\n") % '{"…": "…"}')
