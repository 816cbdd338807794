"""mypy and pyright, each on a user's file: signatures survive the decorators, and wrong calls are errors."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from tests.processes import ROOT

CASES = Path(__file__).with_name("cases.py")


def _mypy(file: Path) -> tuple[int, str]:
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-error-summary",
        "--cache-dir",
        str(file.parent / "cache"),
    ]
    # The project's own settings: what the package itself leaves out is none of the user's.
    done = subprocess.run(
        [*command, "--config-file", str(ROOT / "pyproject.toml"), str(file)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def _pyright(file: Path) -> tuple[int, str]:
    config = {
        "include": [file.name],
        "extraPaths": [str(ROOT)],
        "typeCheckingMode": "standard",
        "enableTypeIgnoreComments": False,
        "reportUnnecessaryTypeIgnoreComment": "error",
    }
    (file.parent / "pyrightconfig.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "pyright", "-p", str(file.parent), "--pythonpath", sys.executable]
    done = subprocess.run(command, cwd=file.parent, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def _users_file(directory: Path, source: str | None = None) -> Path:
    file = directory / "users_code.py"
    if source is None:
        shutil.copy(CASES, file)
    else:
        file.write_text(source)
    return file


def test_typing__mypy(tmp_path: Path) -> None:
    """Every case is as it says, under `mypy --strict`."""
    assert _mypy(_users_file(tmp_path)) == (0, "")


def test_typing__pyright(tmp_path: Path) -> None:
    """Every case is as it says, under pyright's standard mode."""
    status, output = _pyright(_users_file(tmp_path))
    assert status == 0, output


def test_typing__a_wrong_case_is_found(tmp_path: Path) -> None:
    """Both checkers complain about an error that is not there, and about one that is."""
    source = (
        "from flask_rcache import cache_response\n"
        "@cache_response('page')\n"
        "def page(id: int) -> str:\n"
        "    return str(id)\n"
        "page(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]\n"
        "page('1')\n"
    )
    file = _users_file(tmp_path, source)
    for status, output in (_mypy(file), _pyright(file)):
        assert status == 1
        assert [line for line in (":5:", ":6:") if line not in output] == [], output
