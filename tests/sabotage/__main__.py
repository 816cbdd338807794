"""Runs one test for each sabotage: `python -m tests.sabotage '[["rows_unchecked", "tests/…::test_…"], …]'`.

Each runs in a forked child, which breaks its rule and then runs pytest: so the package and pytest are imported once. Two
children run at a time. For each one a JSON line says how it ended: pytest's exit code, and its last words.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import tempfile
import time
import traceback
from pathlib import Path

import hypothesis  # noqa: F401  # before the children need it
import pytest

from tests.sabotage.clauses import SABOTAGES

AT_ONCE = 2
_SECONDS_A_TEST = 25
#: None of pytest's exit codes.
_BROKEN = 70


def _run(name: str, node: str, log: Path) -> None:
    """The life of a child."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    SABOTAGES[name]()
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"--timeout={_SECONDS_A_TEST}", "--no-header", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    code = pytest.main([*options, *shlex.split(node)])
    sys.stdout.flush()
    os._exit(code)


def main() -> None:
    """Run what the command line has, in order."""
    waiting = list(enumerate(json.loads(sys.argv[1])))
    running: dict[int, tuple[int, Path, float]] = {}
    with tempfile.TemporaryDirectory() as directory:
        while waiting or running:
            if waiting and len(running) < AT_ONCE:
                number, (name, node) = waiting.pop(0)
                log = Path(directory) / str(number)
                pid = os.fork()
                if pid == 0:
                    try:
                        _run(name, node, log)
                    except BaseException:  # noqa: BLE001  # a sabotage that does not fit the code
                        traceback.print_exc()
                        sys.stderr.flush()
                    os._exit(_BROKEN)
                running[pid] = number, log, time.monotonic()
                continue
            pid, status = os.wait()
            number, log, began = running.pop(pid)
            code = os.waitstatus_to_exitcode(status)
            seconds = round(time.monotonic() - began, 2)
            said = log.read_text("utf-8", "replace")[-3000:] if log.exists() else ""
            print(json.dumps({"number": number, "code": code, "seconds": seconds, "said": said}), flush=True)


if __name__ == "__main__":
    main()
