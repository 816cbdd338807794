"""Parallel runs of the tests: who runs what, and that nothing is left out without a word there either."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.lanes import unit_of
from tests.processes import ROOT

_NOTED = """
import os, pathlib, pytest
@pytest.mark.parametrize("number", range(8))
def test_noted(number):
    with open({notes!r}, "a") as file:
        file.write(f"{name} {{os.environ['PYTEST_XDIST_WORKER']}}\\n")
"""


@pytest.mark.parametrize(
    ("nodeid", "unit"),
    [
        ("tests/test_keys.py::test_a[x::y]", "tests/test_keys.py"),
        ("tests/views/test_vary.py::test_a", "tests/views/test_vary.py"),
        ("tests/race/test_fleet.py::test_a[redis]", "alone"),
        ("tests/chaos/test_soak.py::test_a", "alone"),
        ("tests/race.py::test_a", "tests/race.py"),
        ("tests/sql/test_queries.py::test_a", "tests/sql/ postgresql"),
        ("tests/sql/test_transactions.py::test_a[mariadb]", "tests/sql/ mariadb"),
        ("tests/chaos/test_restarts.py::test_a", "tests/chaos/test_restarts.py"),
    ],
)
def test_unit_of__file_or_alone(nodeid: str, unit: str) -> None:
    """A file is handed out as one; the directories that keep the machine busy are one unit together."""
    assert unit_of(nodeid) == unit


@pytest.mark.slow
def test_parallel_run__keeps_lanes_and_names_what_did_not_run(tmp_path: Path) -> None:
    """Two workers: races and chaos share one, each file has one; in CI a test that did not run fails the run."""
    notes = tmp_path / "notes"
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["tests.conftest"]\n')
    names = ("race/test_one", "race/test_two", "chaos/test_three", "test_four", "test_five", "test_six")
    for name in names:
        path = tmp_path / "tests" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_NOTED.format(notes=str(notes), name=name))
    left_out = tmp_path / "tests" / "test_left_out.py"
    left_out.write_text('import pytest\ndef test_left_out(): pytest.skip("there is no such server")\n')
    command = [sys.executable, "-m", "pytest", "-n", "2", "-p", "no:cacheprovider"]
    result = subprocess.run(
        command, cwd=tmp_path, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "CI": "true"},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert result.returncode == pytest.ExitCode.TESTS_FAILED, result.stdout + result.stderr
    assert "1 not run: there is no such server" in result.stdout
    assert "In CI that is a failure." in result.stdout
    assert f"{8 * len(names)} passed, 1 skipped in " in result.stdout.splitlines()[-1]
    ran = [tuple(line.split()) for line in notes.read_text().splitlines()]
    workers = {name: {worker for each, worker in ran if each == name} for name in names}
    assert {len(found) for found in workers.values()} == {1}
    assert workers[names[0]] == workers[names[1]] == workers[names[2]]
    assert {worker for _, worker in ran} == {"gw0", "gw1"}
    alone = [name for name, worker in ran if {worker} == workers[names[0]]]
    assert alone[:1] == [names[0]], "what takes longest is begun first"
