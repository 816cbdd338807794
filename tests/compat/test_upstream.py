"""How many tests of the other libraries pass, and that the documentation says which do not."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.compat.deviations import COLLECTED, DEVIATIONS, reason_of, shown_table
from tests.processes import ROOT

FILES = 8


@pytest.fixture(scope="module")
def collected(request: pytest.FixtureRequest) -> list[str]:
    """The ids of all of their tests: as this run has collected them, or, where it has not, another."""
    found = request.config.stash.get(COLLECTED, [])
    if len({each.partition("::")[0] for each in found}) == FILES:
        return found
    command = [
        sys.executable,
        "-m",
        "pytest",
        "tests/compat/upstream",
        "--collect-only",
        "-q",
        "-p",
        "no:cacheprovider",
    ]
    command += ["-n", "0", "-o", "addopts="]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    found = [line for line in result.stdout.splitlines() if "::" in line]
    assert len({each.partition("::")[0] for each in found}) == FILES
    return found


@pytest.mark.parametrize(("library", "at_least"), [("flask_caching", 130), ("cachelib", 150)])
def test_upstream__nine_in_ten_pass(collected: list[str], library: str, at_least: int) -> None:
    """Of each library's tests no more than one in ten is a deviation; the others pass, or this suite fails."""
    tests = [each for each in collected if f"/{library}/" in each]
    deviating = [each for each in tests if reason_of(each) is not None]
    assert len(tests) >= at_least
    assert len(deviating) <= len(tests) / 10


def test_upstream__each_deviation_is_a_test(collected: list[str]) -> None:
    """The table names tests that there are, each once."""
    there = {re.sub(r"\[.*", "", each).rpartition("::")[2] for each in collected}
    named = [test for each in DEVIATIONS for test in each.tests]
    assert set(named) <= there
    assert len(named) == len(set(named))


def test_upstream__the_documentation_lists_the_deviations() -> None:
    """The page for those who move shows the table as it is."""
    page = (ROOT / "docs" / "migrating.md").read_text(encoding="utf-8")
    assert shown_table() in page
