"""Prometheus's own tool reads the alert rules and the dashboard's queries, and runs the rules over made-up series."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from tests.processes import ROOT

FOLDER = ROOT / "docs" / "monitoring"


@pytest.fixture(scope="module")
def promtool() -> str:
    """Debian has it in its package prometheus."""
    path = shutil.which("promtool")
    if path is None:
        pytest.skip("no promtool on the path: install prometheus to run the alert rules")
    return path


def _ran(promtool: str, folder: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run([promtool, *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def test_alerts__fire_when_they_should(promtool: str) -> None:
    """Each alert of the file fires over series that call for it, and not over those beside them."""
    status, output = _ran(promtool, FOLDER, "test", "rules", "alerts_test.yml")
    assert status == 0, output


@pytest.mark.parametrize(
    ("was", "becomes"),
    [("< 0.7", "< 0.5"), ("> 0.9", "> 0.4"), ("> 5 *", "> 0.5 *"), ("== 1", "== 2"), ("> 0.1", "> 0.001")],
)
def test_alerts__the_test_sees_another_figure(promtool: str, tmp_path: Path, was: str, becomes: str) -> None:
    """With a figure of a rule changed, its test fails."""
    rules = (FOLDER / "alerts.yml").read_text()
    assert was in rules
    (tmp_path / "alerts.yml").write_text(rules.replace(was, becomes))
    shutil.copy(FOLDER / "alerts_test.yml", tmp_path)
    status, output = _ran(promtool, tmp_path, "test", "rules", "alerts_test.yml")
    assert status != 0
    assert "FAILED" in output


def test_alerts__each_is_tried() -> None:
    """No rule is left out of the file of tests."""
    rules = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    names = {rule["alert"] for group in rules for rule in group["rules"]}
    tried = (FOLDER / "alerts_test.yml").read_text()
    assert {name for name in names if name not in tried} == set()


def test_dashboard__every_query_is_promql(promtool: str, tmp_path: Path) -> None:
    """Each panel's query, with Grafana's variables put in, is one that Prometheus can read."""
    panels = json.loads((FOLDER / "grafana.json").read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    assert len(queries) > 25
    records = [{"record": f"query:{number}", "expr": _filled_in(query)} for number, query in enumerate(queries)]
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": records}]}))
    status, output = _ran(promtool, tmp_path, "check", "rules", "queries.yml")
    assert status == 0, output
    assert f"{len(queries)} rules found" in output


def _filled_in(query: str) -> str:
    for name in ("__rate_interval", "__interval", "__range"):
        query = query.replace(f"${name}", "5m")
    filled = re.sub(r"\$\{?[a-z]\w*(?::\w+)?\}?", ".*", query)
    assert "$" not in filled
    return filled
