"""mypy and pyright, each on a user's files: signatures survive the decorators, and wrong calls are errors."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CASES = Path(__file__).with_name("cases.py")
#: One error that is not there, in line 5, and one that is.
_WRONG = """\
from flask_rcache import cache_response
@cache_response('page')
def page(id: int) -> str:
    return str(id)
page(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
page('1')
"""


def _mypy(directory: Path) -> str:
    # The project's own settings and cache, which `make check` fills: what the package itself leaves out
    # is none of the user's, and most of the time would go into other people's packages.
    options = ["--strict", "--no-error-summary", "--cache-dir", str(ROOT / ".mypy_cache")]
    command = [sys.executable, "-m", "mypy", *options, "--config-file", str(ROOT / "pyproject.toml"), str(directory)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


def _pyright(directory: Path) -> str:
    config = {
        "include": ["."],
        "extraPaths": [str(ROOT)],
        "typeCheckingMode": "standard",
        "enableTypeIgnoreComments": False,
        "reportUnnecessaryTypeIgnoreComment": "error",
    }
    (directory / "pyrightconfig.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "pyright", "-p", str(directory), "--pythonpath", sys.executable]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module", params=[_mypy, _pyright], ids=lambda checker: str(checker.__name__))
def complaints(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[str]]:
    """What each checker has to say of the files, asked once: a function of a file's name."""
    directory = tmp_path_factory.mktemp("users")
    shutil.copy(CASES, directory / "right.py")
    (directory / "wrong.py").write_text(_WRONG)
    output: str = request.param(directory)
    return lambda name: re.findall(rf"{re.escape(name)}:\d+:.*error.*", output)


def test_typing__every_case_is_as_it_says(complaints: Callable[[str], list[str]]) -> None:
    """Under `mypy --strict` and under pyright's standard mode."""
    assert complaints("right.py") == []


def test_typing__a_wrong_case_is_found(complaints: Callable[[str], list[str]]) -> None:
    """Both checkers complain about an error that is not there, and about one that is."""
    assert [line.split(":")[1] for line in complaints("wrong.py")] == ["5", "6"]
