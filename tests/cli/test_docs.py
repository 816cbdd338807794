"""What `docs/cli.md` shows of the commands is what they print."""

from __future__ import annotations

import doctest
import re
import shlex

import click
import pytest
from click.testing import CliRunner
from flask import Flask

from flask_rcache.cli import cache
from flask_rcache.stores.redis.facts import EVICTION_ADVICE
from tests.cli.kit import manager
from tests.processes import ROOT
from tests.servers import Server
from tests.test_docs import python_blocks

PAGE = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
_BLOCK = re.compile(r"^(<!-- not run: .*-->\n)?```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def _examples() -> list[tuple[str, str]]:
    """Each command line of the page, and what the page says it prints."""
    found: list[tuple[str, str]] = []
    for not_run, block in _BLOCK.findall(PAGE):
        if not not_run:
            for example in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                command, _, printed = example.partition("\n")
                found.append((command, printed))
    return found


def _shop() -> Flask:
    namespace: dict[str, object] = {"__name__": "shop"}
    for block in python_blocks(PAGE):
        exec(compile(block.source, "docs/cli.md", "exec"), namespace)
    app = namespace["app"]
    assert isinstance(app, Flask)
    if "cache" not in app.cli.commands:
        app.cli.add_command(cache)
    return app


def test_cli_page__examples_are_what_is_printed(redis_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command on the page, one after the other on one server, prints what stands under it."""
    monkeypatch.setenv("RCACHE_URL", redis_server.url)
    monkeypatch.delenv("FLASK_APP", raising=False)
    app = _shop()
    checker, code, run = doctest.OutputChecker(), 0, 0
    try:
        for command, printed in _examples():
            if command == "echo $?":
                assert printed == f"{code}\n", command
                continue
            words = shlex.split(command)
            if words[0] == "export":
                continue
            assert words[:2] == ["flask", "cache"]
            result = app.test_cli_runner().invoke(args=words[1:])
            code, run = result.exit_code, run + 1
            assert checker.check_output(printed, result.output, _FLAGS), f"$ {command}\n{result.output}"
    finally:
        manager(app).close()
    assert run > 10


def test_cli_page__names_every_command_and_option() -> None:
    """A command is in the table, and an option is on the page or plain from `--help`."""
    assert isinstance(cache, click.Group)
    listed = re.findall(r"^\| `([a-z-]+)", PAGE.partition("No command shows")[0], re.MULTILINE)
    assert sorted(listed) == cache.list_commands(click.Context(cache))


def test_commands__explain_themselves() -> None:
    """Every command and every option has a help text."""
    assert isinstance(cache, click.Group)
    context = click.Context(cache)
    for name in cache.list_commands(context):
        command = cache.get_command(context, name)
        assert command is not None
        assert command.help
        assert all(option.help for option in command.params if isinstance(option, click.Option))


def test_advice_on_eviction__is_one_sentence() -> None:
    """The page that gives it, and the log and `check`, say the same."""
    text = (ROOT / "docs" / "redis.md").read_text(encoding="utf-8")
    assert EVICTION_ADVICE in " ".join(text.split()).lower()


def test_help__lists_whole_sentences() -> None:
    """What `flask cache --help` and `flask cache sql --help` say of each command fits a terminal of 80 columns."""
    for group in (cache, cache.get_command(click.Context(cache), "sql")):
        assert isinstance(group, click.Group)
        shown = CliRunner().invoke(group, ["--help"], terminal_width=80).output.partition("Commands:")[2]
        assert len(shown.splitlines()) > 2
        assert [line for line in shown.splitlines() if line and not line.endswith(".")] == []
