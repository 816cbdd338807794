"""What was measured: a figure in prose is a cell of a table that a benchmark has published, and says of which.

Written by `make bench`: the tables (`<!-- benchmark: NAME -->`), and what prose quotes of them
(`<!-- figure: NAME; ROW; COLUMN -->`). What looks like a measurement and is none (a default, a limit, a threshold) has
`<!-- set -->` behind it. A count of something else than a benchmark names the command that prints it, in its paragraph.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.report import quoted
from benchmarks.suite import BENCHMARKS
from tests.processes import ROOT

PAGES = [ROOT / "README.md", ROOT / "CHANGES.md", *sorted((ROOT / "docs").glob("*.md"))]
_TABLE = re.compile(r"<!-- benchmark: ([\w ]+?) -->\n(.*?)<!-- end of \1 -->", re.DOTALL)
_FIGURE = re.compile(r"<!-- figure: ([^;]+?); ([^;]+?); ([^;]+?) -->(.*?)<!-- end -->", re.DOTALL)
_MEASURED = re.compile(
    r"\d[\d.,]*[ -]?(?:µs|ms|×|%|[KMG]i?B)(?!\w)|× ?\d|\d[\d.,]* times (?:as|what|\w+er)\b|"
    r"\b(?:an?|few|several|half)\s(?:milli|micro)seconds?\b|\d[\d.,]* of (?:its )?\d|\d[\d.,]* \w+ (?:a|per) second\b"
)
_TIMED = re.compile(r"\d[\d.,]*[ -]?(?:µs|ms|×)(?!\w)|\b(?:an?|few|several|half)\s(?:milli|micro)seconds?\b")
_COMMAND = re.compile(r"`python -m [\w.]+")


def cells(text: str) -> dict[str, dict[tuple[str, str], str]]:
    """The published tables of a page: by name, each cell by the text of its row and of its column."""
    found: dict[str, dict[tuple[str, str], str]] = {}
    for name, table in _TABLE.findall(text):
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
        if not rows:  # a place that nothing was published to yet
            continue
        head, _, *rows = rows
        found[name] = {(row[0], column): cell for row in rows for column, cell in zip(head[1:], row[1:], strict=True)}
    return found


def measured(text: str) -> list[str]:
    """What a page says was measured, in its own words instead of a benchmark's."""
    for pattern in (_TABLE, _FIGURE, re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)):
        text = pattern.sub("", text)
    text = re.sub(r"[^\s|(]+[ -]?[^\s|(]*<!-- set -->", "", text)
    return [
        f"{match[0]}: {' '.join(paragraph.split())[:100]}"
        for paragraph in re.split(r"\n\s*\n", text)
        if not _COMMAND.search(paragraph)
        for match in _MEASURED.finditer(re.sub(r"`[^`\n]*`", "", paragraph))
    ]


def comments(path: Path) -> Iterator[str]:
    """The comments and docstrings of a module."""
    source = path.read_text(encoding="utf-8")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


TABLES = {name: table for page in PAGES for name, table in cells(page.read_text(encoding="utf-8")).items()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page__quotes_what_was_measured(page: Path) -> None:
    """A figure that a page quotes is the one in the table, and it quotes only tables that there are."""
    text = page.read_text(encoding="utf-8")
    for name in {name for name, *_ in _FIGURE.findall(text)}:
        assert quoted(text, name, TABLES[name]) == text, f"make bench, or set the figures of {name} to its table's"
    assert re.findall(r"^\s*(?:[-*] )?<!-- figure: .*", text, re.MULTILINE) == [], "it would begin a block of HTML"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page__measures_nothing_by_itself(page: Path) -> None:
    """What was measured is quoted from a table, or names its command; a setting says that it is one."""
    assert measured(page.read_text(encoding="utf-8")) == []


def test_tables__name_a_command_that_make_bench_runs() -> None:
    """Each table ends with the command that has printed it, and the commit."""
    for page in PAGES:
        for name, table in _TABLE.findall(page.read_text(encoding="utf-8")):
            (command,) = re.findall(
                r"^`python -m (benchmarks[\w.]*)[^`]*`.*, commit [0-9a-f]{7,}\.$", table, re.MULTILINE
            )
            assert command in BENCHMARKS, name


def test_package__comments_have_no_figures() -> None:
    """Nobody measures again what a comment claims: it gives the reason, and a benchmark the figure."""
    modules = [*(ROOT / "flask_rcache").rglob("*.py"), *(ROOT / "example_app").rglob("*.py")]
    found = {
        str(path.relative_to(ROOT)): match[0]
        for path in modules
        for text in comments(path)
        for match in _TIMED.finditer(text)
    }
    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        "It takes 5 ms.",
        "It is 1.2 × a bare view.",
        "Some 90 % of them pass.",
        "It takes half a\nmillisecond.",
        "12,000 writes a second.",
        "It takes 5.9 times what a view takes.",
        "155 of its 160 tests pass.",
        "A page of 2.5 GB.",
    ],
)
def test_measured__finds_a_figure(text: str) -> None:
    """A measurement that somebody has typed is found, in a sentence and in a table; marked it is not."""
    assert measured(text)
    assert measured(f"| a row | {text} |")
    assert measured(f"{text} `python -m benchmarks` prints it.") == []


def test_measured__leaves_settings_and_quotes_alone() -> None:
    """So are code, published tables, and what is marked as a setting."""
    quote = "It is <!-- figure: x; hit; ms -->1.2<!-- end --> ms."
    assert measured(f"{quote}\n\n5 ms<!-- set --> at most, `50 ms`.\n\n```text\n5 ms\n```\n") == []
    assert cells("<!-- benchmark: x -->\n\n|  | ms |\n|---|---:|\n| hit | 1.2 |\n\n<!-- end of x -->") == {
        "x": {("hit", "ms"): "1.2"}
    }
