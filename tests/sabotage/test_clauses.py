"""Each clause of R1 to R6 is watched over: with it removed, the test that the table names fails."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.processes import ROOT
from tests.sabotage.clauses import SABOTAGES

_PASSED, _FAILED = pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED


def _long(test: Any) -> Any:
    """Mark a test that breaks every rule: it takes minutes."""
    return pytest.mark.long(pytest.mark.slow(pytest.mark.timeout(600)(test)))


@pytest.fixture(scope="module")
def ended() -> dict[str, dict[str, Any]]:
    """How each of the tests ended with its sabotage, and all of them with none."""
    command = [sys.executable, "-m", "tests.sabotage"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=580, check=True)
    return {line["name"]: line for line in map(json.loads, done.stdout.splitlines())}


@_long
def test_tests__pass_without_a_sabotage(ended) -> None:
    """What notices a sabotage passes without one."""
    assert ended["none"]["code"] == _PASSED, ended["none"]["said"]


@_long
@pytest.mark.parametrize("name", [name for name, each in SABOTAGES.items() if each.noticed_by])
def test_clause__is_missed(ended, name) -> None:
    """With a clause removed, its test fails: it does not hang, and it is not that it could not be run."""
    assert ended[name]["code"] == _FAILED, f"{SABOTAGES[name].what}: {ended[name]['said']}"
    assert "Timeout (>" not in ended[name]["said"], f"{SABOTAGES[name].what}: {ended[name]['said']}"


def test_table__fits_the_code() -> None:
    """Each sabotage finds the lines that it changes."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.sabotage", "--fit"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert done.returncode == 0, done.stdout


def test_table__has_every_rule() -> None:
    """No rule is without a sabotage."""
    rules = [f"R1.{number}" for number in range(2, 8)] + [f"R3.{number}" for number in range(1, 5)]
    rules += [f"R4.{number}" for number in range(1, 5)] + ["R2", "R5", "R6"]
    assert sorted({each.clause for each in SABOTAGES.values()}) == sorted(rules)
