"""The commands as people and scripts run them: a process of its own, a pipe, a terminal."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask

from flask_rcache import ConfigError, Invalidated
from flask_rcache.cli.changing import _with_bar
from tests.cli.conftest import AppFactory
from tests.cli.kit import fill, told
from tests.processes import ROOT
from tests.servers import Server

pytestmark = pytest.mark.slow

_SECONDS = 60


def _command(url: str, *arguments: str) -> list[str]:
    flask = Path(sys.executable).parent / "flask"
    return [str(flask), "--app", f"tests.cli.kit:make_app('{url}')", "cache", *arguments]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def _flask(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        _command(url, *arguments),
        cwd=ROOT,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )


class _Terminal:
    """A command on a terminal of its own; `stdout` may go elsewhere."""

    def __init__(self, url: str, *arguments: str, stdout: int | None = None) -> None:
        self._side, child = pty.openpty()
        self.process = subprocess.Popen(
            _command(url, *arguments),
            cwd=ROOT,
            env=_environment(),
            stdin=child,
            stdout=child if stdout is None else stdout,
            stderr=child,
        )
        os.close(child)
        self.seen = ""

    def __enter__(self) -> _Terminal:
        return self

    def __exit__(self, *raised: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._side)

    def read(self, until: str | None = None) -> str:
        """Read to a text, or to the end."""
        while until is None or until not in self.seen:
            try:
                data = os.read(self._side, 4096)
            except OSError:  # how a terminal ends
                break
            if not data:
                break
            self.seen += data.decode()
        return self.seen

    def say(self, text: str) -> None:
        """Type a line."""
        os.write(self._side, text.encode() + b"\n")

    def ended(self) -> int:
        """Read to the end; the exit code."""
        self.read()
        return self.process.wait(_SECONDS)


@pytest.fixture
def filled(redis_server: Server, new_app: AppFactory) -> Flask:
    """An application on the server of the test, with twenty entries of a view and of values."""
    app = new_app(redis_server.url)
    fill(app, 20)
    app.test_client().get("/page/a")
    return app


def test_flask__finds_the_commands(redis_server: Server, filled: Flask) -> None:
    """`flask --app … cache` works as it stands in the documentation, with answers and messages kept apart."""
    helped = _flask(redis_server.url, "--help")
    assert helped.returncode == 0
    assert "invalidate-pattern" in helped.stdout
    listed = _flask(redis_server.url, "keys", "--json")
    assert (listed.returncode, len(json.loads(listed.stdout)["keys"])) == (0, 21)
    removed = _flask(redis_server.url, "invalidate-type", "page", "--json")
    assert json.loads(removed.stdout)["deleted_keys"] == 21
    assert told(filled, "keys")["keys"] == []
    assert filled.test_client().get("/page/a").headers["X-Cache"] == "MISS"


def test_flask__exit_codes(redis_server: Server, private_server: Callable[..., Server]) -> None:
    """0, 1 and 2 reach the shell; what is not delivered is 1, whoever waits for the journal waits in vain."""
    assert _flask(redis_server.url, "check").returncode == 0
    assert _flask(redis_server.url, "invalidate-type", "nonsense").returncode == 2
    server = private_server()
    server.kill()
    refused = _flask(server.url, "clear-all", "--yes")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "Not delivered" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_clear__asks_on_a_terminal(redis_server: Server, filled: Flask) -> None:
    """It says how much of which cache; "n" leaves everything, "y" clears."""
    for answer, code, left in (("n", 1, 21), ("y", 0, 0)):
        with _Terminal(redis_server.url, "clear-all") as terminal:
            asked = terminal.read("[y/N]")
            assert "21 entries" in asked
            assert f"127.0.0.1:{redis_server.port}" in asked
            terminal.say(answer)
            assert terminal.ended() == code
        assert len(told(filled, "keys")["keys"]) == left


def test_keys__a_bar_while_a_file_is_written(redis_server: Server, filled: Flask) -> None:
    """On the terminal is a bar, in the file the listing and nothing else."""
    reading, writing = os.pipe()
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, reading)
        with _Terminal(redis_server.url, "keys", "--all", stdout=writing) as terminal:
            os.close(writing)
            seen = terminal.read()
            assert terminal.ended() == 0
        assert "Listing" in seen
        assert "100%" in seen
        text = os.read(reading, 65_536).decode()
    assert len(text.splitlines()) == 22
    assert "Listing" not in text


def test_keys__without_a_terminal_no_bar(redis_server: Server, filled: Flask) -> None:
    """In a script nothing moves."""
    result = _flask(redis_server.url, "keys", "--all")
    assert result.stderr.strip() == "21 entries."


def test_invalidate_pattern__on_a_terminal(redis_server: Server, filled: Flask) -> None:
    """With a bar, should it take long, it does the same and ends in the same ways."""
    with _Terminal(redis_server.url, "invalidate-pattern", "page:1*") as terminal:
        assert terminal.ended() == 0
        assert "11 entries removed" in terminal.seen
    with _Terminal(redis_server.url, "invalidate-pattern", "*", "--type", "nonsense") as terminal:
        assert terminal.ended() == 2
        assert "unknown cache type" in terminal.seen
    assert len(told(filled, "keys")["keys"]) == 10


def test_keys__a_listing_that_breaks_off_is_still_one_document(
    new_app: AppFactory, private_server: Callable[..., Server]
) -> None:
    """What was listed is whole JSON, says that it is not complete, and where it stood."""
    server = private_server()
    tags = tuple(f"{number:0>190}" for number in range(8))
    fill(new_app(server.url), 3000, tags=tags)
    with subprocess.Popen(
        _command(server.url, "keys", "--all", "--json"),
        cwd=ROOT,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.read(100)
        # A pipe holds 64 KB and a page is 1.6 MB, so no later one has been asked for yet.
        server.kill()
        rest, errors = process.stdout.read(), process.stderr.read()
    document = json.loads(first + rest)
    assert 0 < len(document["keys"]) < 3000
    assert document["complete"] is False
    assert document["cursor"]
    assert process.returncode == 1
    assert b"not complete" in errors


class _Screen(io.StringIO):
    """A terminal's standard error; says when the bar is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown = threading.Event()

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if "Walking the keys" in text:
            self.shown.set()
        return super().write(text)


def test_invalidate_pattern__a_bar_while_it_waits(new_app: AppFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes longer than a moment is seen to be under way; it returns and raises all the same."""
    screen = _Screen()
    monkeypatch.setattr(sys, "stderr", screen)

    def slow() -> Invalidated:
        assert screen.shown.wait(30)
        return Invalidated(3)

    def failing() -> Invalidated:
        raise ConfigError("no such pattern")

    with new_app().app_context():
        assert _with_bar(slow) == 3
        with pytest.raises(ConfigError, match="no such pattern"):
            _with_bar(failing)
