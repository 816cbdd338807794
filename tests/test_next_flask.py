"""The next Flask merges the request's context into the app's: views and the checks of the start work there too."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.processes import ROOT

PARTS = (
    "tests/test_context.py",
    "tests/test_startup.py",
    "tests/views/test_decorator.py",
    "tests/views/test_lifecycle.py",
)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_next_flask__views_and_contexts() -> None:
    """The tests of decorated views pass with a stub of the changed API; see `tests/next_flask.py`."""
    environ = {**os.environ, "PYTEST_ADDOPTS": "", "CI": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "tests.next_flask", "-p", "no:cacheprovider", *PARTS]
    result = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=280, check=False)
    assert result.returncode == 0, result.stdout[-4000:]
    assert " passed" in result.stdout
