"""Every Python block of the README and of the documentation runs by itself, as if it were pasted into an empty file.

A block that is not to run says why in a line above its fence: `<!-- not run: it needs a Sentinel -->`.
"""

from __future__ import annotations

import ast
import gc
import inspect
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import flask_rcache
from flask_rcache.config.settings import SETTINGS
from tests.processes import ROOT
from tests.transcripts import curl, curl_commands

_FENCE = re.compile(r"^```(\w*)")
_NOT_RUN = re.compile(r"^<!-- not run: .{8,} -->$")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: its first line's number in the page, and its text."""

    line: int
    source: str


def python_blocks(text: str) -> list[Block]:
    """Return the blocks of a page that are to run."""
    blocks: list[Block] = []
    fence: tuple[bool, int] | None = None
    before = ""
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        match = _FENCE.match(line)
        if fence is None and match:
            fence = (match[1] == "python" and not _NOT_RUN.match(before), number)
        elif fence is not None and line.rstrip() == "```":
            wanted, start = fence
            if wanted:
                blocks.append(Block(start + 1, "\n".join(lines[start : number - 1]) + "\n"))
            fence = None
        if line.strip():
            before = line
    return blocks


def run_block(path: Path, block: Block) -> None:
    """Run a block in a module of its own; tracebacks point at the page's own lines."""
    code = compile("\n" * (block.line - 1) + block.source, str(path), "exec", dont_inherit=True)
    exec(code, {"__name__": path.stem})
    if "sqlite://" in block.source:
        # As at the end of a program, nobody closes the connection; Python 3.13 would say so in some later test.
        with warnings.catch_warnings(action="ignore", category=ResourceWarning):
            gc.collect()


PAGES = [
    page
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
    if "_build" not in page.parts and python_blocks(page.read_text(encoding="utf-8"))
]
EXAMPLES = [
    pytest.param(page, block, id=f"{os.fspath(page.relative_to(ROOT))}:{block.line}")
    for page in PAGES
    for block in python_blocks(page.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize(("page", "block"), EXAMPLES)
def test_docs__each_example_runs_alone(
    page: Path, block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a page shows works as it stands there, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    run_block(page, block)


@pytest.mark.parametrize(("page", "block"), EXAMPLES)
def test_docs__examples_import_what_they_use(page: Path, block: Block) -> None:
    """Nothing is imported for an example that stood there before."""
    tree = ast.parse(block.source)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {(alias.asname or alias.name).partition(".")[0] for node in imports for alias in node.names}
    assert names - {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} == set()


def test_docs__the_readme_shows_what_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's `curl` commands print on its example what the README shows."""
    monkeypatch.delenv("RCACHE_URL", raising=False)
    monkeypatch.delenv("REDIS_URL", raising=False)
    readme = ROOT / "README.md"
    (example,) = python_blocks(readme.read_text(encoding="utf-8"))
    namespace: dict[str, Any] = {"__name__": "shop"}
    exec(example.source, namespace)
    client, commands = namespace["app"].test_client(), curl_commands(readme)
    assert len(commands) == 4
    for command, shown in commands:
        assert curl(client, command) == shown, command


def test_docs__a_wrong_example_fails(tmp_path: Path) -> None:
    """A block whose assertion is wrong fails, at the page's own line."""
    page = tmp_path / "page.md"
    (block,) = python_blocks("# Title\n\ntext\n\n```python\nx = 1\nassert x == 2\n```\n")
    with pytest.raises(AssertionError) as failure:
        run_block(page, block)
    assert failure.traceback[-1].lineno + 1 == 7


def test_docs__an_example_that_needs_another_fails(tmp_path: Path) -> None:
    """One that uses a name of an example before it fails."""
    page = tmp_path / "page.md"
    first, second = python_blocks("```python\nx = 1\n```\n\ntext\n\n```python\nx += 1\n```\n")
    run_block(page, first)
    with pytest.raises(NameError):
        run_block(page, second)


def test_docs__only_explained_blocks_are_left_out() -> None:
    """A block is left out only with a reason, and blocks of other languages never run."""
    page = "<!-- not run: it needs a cluster -->\n```python\n1/0\n```\n\n"
    page += "```console\n$ ls\n```\n\n```python\npass\n```\n"
    assert python_blocks(page) == [Block(line=11, source="pass\n")]


def test_docs__the_api_page_shows_every_name() -> None:
    """What autodoc does not list by itself (constants, signals, proxies) stands on the page by hand."""
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    by_hand = [
        name
        for name in flask_rcache.__all__
        if not inspect.isclass(getattr(flask_rcache, name)) and not inspect.isfunction(getattr(flask_rcache, name))
    ]
    assert by_hand
    missing = [name for name in by_hand if f"`{name}`" not in page and f"flask_rcache.{name}\n" not in page]
    assert missing == []


def test_docs__readme_settings_exist() -> None:
    """The settings that the README names are settings."""
    named = set(re.findall(r"`(RCACHE_\w+)`", (ROOT / "README.md").read_text(encoding="utf-8")))
    known = {f"RCACHE_{name.upper()}" for name in SETTINGS}
    assert named
    assert {name for name in named if not name.startswith("RCACHE_TTL_")} <= known


def test_docs__every_page_is_listed() -> None:
    """Each page is in the README, described in the index, and in its navigation once."""
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    pages = sorted(page.stem for page in (ROOT / "docs").glob("*.md") if page.stem != "index")
    trees = "".join(re.findall(r"```{toctree}\n(.*?)```", index, re.DOTALL))
    assert sorted(re.findall(r"^([\w-]+)$", trees, re.MULTILINE)) == pages
    assert sorted(re.findall(r"^\[.+\]\(([\w-]+)\.md\)\n: ", index, re.MULTILINE)) == pages
    assert [page for page in pages if f"](docs/{page}.md" not in readme and page != "changes"] == []
