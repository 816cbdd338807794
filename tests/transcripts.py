"""What a page shows of a terminal: its `curl` commands with the lines below them, and what they print on a test client.

It knows `-s`, `-si`, `-X`, `-H` and `--json`, and `grep` behind it with words, each after `-e` or alone.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask.testing import FlaskClient


def curl_commands(page: Path) -> list[tuple[str, list[str]]]:
    """The `curl` commands of a page's console blocks, each with the lines that are shown below it."""
    commands: list[tuple[str, list[str]]] = []
    for block in re.findall(r"^```console\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        shown: list[str] = []
        for line in block.splitlines():
            if line.startswith("$ "):
                shown = []
                if line.startswith("$ curl "):
                    commands.append((line.removeprefix("$ "), shown))
            else:
                shown.append(line)
    return commands


def curl(client: FlaskClient, command: str) -> list[str]:
    """The lines that a command prints, without those that are empty."""
    words, _, filter_ = command.partition(" | ")
    options: dict[str, Any] = {"method": "GET", "headers": {}}
    parts = iter(shlex.split(words)[1:])
    for word in parts:
        if word == "-X":
            options["method"] = next(parts)
        elif word == "-H":
            name, _, value = next(parts).partition(": ")
            options["headers"][name] = value
        elif word == "--json":
            options["json"] = json.loads(next(parts))
        elif word.startswith("http://127.0.0.1:5000/"):
            options["path"] = urlsplit(word).path
        else:
            assert word in ("-s", "-si"), f"the test does not know curl {word}"
    answer = client.open(**options)
    printed = answer.text.splitlines()
    if "-si" in words:
        printed = [f"HTTP/1.1 {answer.status}", *(f"{name}: {value}" for name, value in answer.headers), *printed]
    wanted = [word for word in shlex.split(filter_)[1:] if word != "-e"]
    return [line for line in printed if line and (not wanted or any(word in line for word in wanted))]
