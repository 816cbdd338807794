"""The benchmarks: their figures get into the pages, and the pages have a place for each."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report
from benchmarks.load import send
from benchmarks.miss import PARTS, Traced
from benchmarks.rows import ROWS
from benchmarks.suite import BENCHMARKS
from tests.processes import ROOT

_PUBLISHED = [name for name, (arguments, _) in BENCHMARKS.items() if "--publish" in arguments]
#: The rows in memory ask nothing of it.
NO_SERVER: Any = None
_NAMES = {"hits", *(name.removeprefix("benchmarks.") for name in _PUBLISHED if "." in name)}


def _report(name: str = "x") -> report.Report:
    return report.Report(
        name=name,
        title="Hits",
        command="python -m benchmarks",
        method="Two rounds.",
        columns=("", "µs", "× bare"),
        rows=[("bare", "10.0", "1.00"), ("flask_rcache", "11.0", "1.10")],
        bars=[report.Bar("bare", 1.0, "floor"), report.Bar("flask_rcache", 1.1, "ours")],
        unit="× bare",
        skipped=["cashews, since it is not installed"],
    )


def test_report__names_its_command_its_machine_and_what_is_missing() -> None:
    """Whoever reads a table can measure it again, and sees what was left out."""
    text = _report().markdown()
    assert text.startswith("|  | µs | × bare |\n|---|---:|---:|\n| bare | 10.0 | 1.00 |\n")
    assert "`python -m benchmarks`: Two rounds." in text
    assert "cores" in text
    assert "Python 3." in text
    assert "Not measured: cashews, since it is not installed." in text


def test_report__replaces_only_its_own_table() -> None:
    """A second run replaces the first one's table; other places and other text stay as they are."""
    page = "a\n<!-- benchmark: x -->\n<!-- end of x -->\nb\n<!-- benchmark: y -->\nold\n<!-- end of y -->\n"
    once = report.placed(page, "x", "one")
    assert report.placed(once, "x", "one") == once
    assert report.placed(once, "x", "two") == page.replace("x -->\n<!-- end", "x -->\n\ntwo\n\n<!-- end")
    assert report.placed(page, "z", "no") == page


@pytest.mark.slow
def test_report__draws_a_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As SVG and PNG, and the same file from the same figures."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("<!-- benchmark: x -->\n<!-- end of x -->\n")
    monkeypatch.setattr(report, "_FOLDER", tmp_path / "plots")
    monkeypatch.setattr(report, "_ROOT", tmp_path)
    _report().publish()
    first = (tmp_path / "plots" / "x.svg").read_bytes()
    assert b"flask_rcache" in first
    assert "| flask_rcache | 11.0 | 1.10 |" in (tmp_path / "README.md").read_text()
    assert (tmp_path / "plots" / "x.png").read_bytes().startswith(b"\x89PNG")
    _report().publish()
    assert (tmp_path / "plots" / "x.svg").read_bytes() == first


_PAGES = {page.name: page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md")}


def test_pages__have_a_place_for_every_benchmark() -> None:
    """Each command of `make bench` that publishes has one place for its table, and one for its plot if it draws any."""
    text = "".join(_PAGES.values())
    assert sorted(re.findall(r"<!-- benchmark: (\w+) -->", text)) == sorted(_NAMES)
    plots = sorted(path.stem for path in (ROOT / "docs" / "benchmarks").glob("*.svg"))
    assert sorted(re.findall(r"!\[[^\]]+\]\(benchmarks/(\w+)\.svg\)", text)) == plots


def test_pages__name_commands_that_there_are() -> None:
    """Each `python -m` of ours that a page names can be run, and each benchmark is on the page on performance."""
    named = set(re.findall(r"python -m ((?:benchmarks|tests)[.\w]*)", "".join(_PAGES.values())))
    assert [name for name in [*named, *BENCHMARKS] if importlib.util.find_spec(name) is None] == []
    shown = re.findall(
        r"`python -m (benchmarks[.\w]*)", _PAGES["performance.md"] + _PAGES["memory-tier.md"] + _PAGES["metrics.md"]
    )
    assert set(BENCHMARKS) <= set(shown)


@pytest.mark.slow
def test_load__measures_a_server(gunicorn) -> None:
    """Requests a second, and latencies in milliseconds, of a server that answers."""
    web = gunicorn("benchmarks.served:create('hello')", threads=2, worker_class="gthread")
    load = send(f"{web.url}/x", seconds=1, connections=2)
    assert load.per_second > 1
    assert 0 < load.p50 <= load.p99


def test_miss__is_made_of_few_steps() -> None:
    """A miss in memory interprets a few times what a bare view does, and each call of ours is in one of its parts."""
    bare, row = ROWS["bare"](NO_SERVER), ROWS["memory-miss"](NO_SERVER)
    for each in (bare, row):
        each.verify()
    plain, traced = Traced(bare.call), Traced(row.call)
    row.close()
    assert plain.calls.total() == 0
    assert all(traced.instructions.values())
    assert set(traced.instructions) == set(PARTS)
    assert traced.calls.total() <= 250
    assert traced.instructions.total() <= 3.8 * plain.instructions.total()
