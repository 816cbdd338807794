"""The package itself: its import contract, its names, and what the documentation lists of it."""

from __future__ import annotations

import ast
import configparser
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

from flask_rcache.http import Reason
from tests.processes import ROOT

_PACKAGE = ROOT / "flask_rcache"


def _run(*command: str, cwd: Path = ROOT, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_setup_cfg__holds_only_the_import_contract() -> None:
    """Other tools' sections in setup.cfg would silently fight pyproject.toml."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    assert parser.sections()
    assert [name for name in parser.sections() if name.split(":")[0] != "importlinter"] == []


def test_package__imports_only_downwards() -> None:
    """The contract in setup.cfg is kept: layers, no circles, and Flask only at the top."""
    result = _run(str(Path(sys.executable).parent / "lint-imports"), "--no-cache")
    assert result.returncode == 0, result.stdout


def test_package__an_upward_import_breaks_the_contract(tmp_path: Path) -> None:
    """The contract can be broken: an import from below is found, a circle, and Flask below its layer."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(_PACKAGE, tmp_path / "flask_rcache", ignore=ignore)
    shutil.copy(ROOT / "setup.cfg", tmp_path)
    with (tmp_path / "flask_rcache" / "errors.py").open("a") as module:
        module.write("\nimport flask\nfrom .engine import manager\n")
    lint = str(Path(sys.executable).parent / "lint-imports")
    result = _run(lint, "--no-cache", cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert result.returncode != 0
    assert "flask_rcache.errors is not allowed to import flask_rcache.engine" in result.stdout
    assert "0 kept, 3 broken" in result.stdout


def test_package__all_is_sorted_and_complete() -> None:
    """`__init__` only re-exports, and `__all__` lists exactly what it re-exports."""
    import flask_rcache

    tree = ast.parse((_PACKAGE / "__init__.py").read_text())
    imported = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module != "__future__"
        for alias in node.names
    }
    # Constants, then classes, then functions, each by name: the order that the linter keeps.
    ordered = sorted(set(flask_rcache.__all__), key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    assert list(flask_rcache.__all__) == ordered
    assert imported - {"annotations"} == set(flask_rcache.__all__) - {"__version__"}


def test_package__offers_the_whole_contract() -> None:
    """Every name that the documentation imports from the package is there."""
    import flask_rcache

    contract = """
        RCache CacheManager CacheType FROM_HEADERS MISSING cache_response cached by_user current_cache
        invalidate_cache_type invalidate_tags invalidate_pattern invalidate_key clear_all get_cache_stats
    """
    assert [name for name in contract.split() if name not in flask_rcache.__all__] == []


def test_documentation__lists_every_setting() -> None:
    """docs/configuration.md has what the code declares; when not: `PYTHONPATH=. python docs/reference.py`."""
    reference = runpy.run_path(str(ROOT / "docs" / "reference.py"))
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert reference["page"](text) == text, "run: PYTHONPATH=. python docs/reference.py"
    assert "`RCACHE_URL`" in text


def test_documentation__has_a_remedy_for_every_reason() -> None:
    """docs/bypass-and-miss.md has a row for each `detail` of Cache-Status, in the code's order, with its sentence."""
    text = (ROOT / "docs" / "bypass-and-miss.md").read_text(encoding="utf-8")
    rows = [
        (detail, kind, means)
        for kind, section in re.findall(r"^## `(BYPASS|MISS)`:(.*?)(?=^## )", text, re.MULTILINE | re.DOTALL)
        for detail, means in re.findall(r"^\| `([A-Z-]+)` \| (.+?) \| .{10,} \|$", section, re.MULTILINE)
    ]
    assert rows == [(reason.value, reason.x_cache, reason.sentence) for reason in Reason]


def test_documentation__has_an_entry_for_every_alert() -> None:
    """docs/runbook.md names every alert that the rules define, and no other."""
    rules = (ROOT / "docs" / "monitoring" / "alerts.yml").read_text(encoding="utf-8")
    text = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    alerts = set(re.findall(r"- alert: (\w+)", rules))
    assert alerts
    assert set(re.findall(r"\*\*(Cache\w+)\*\*", text)) == alerts
