"""Breaks one rule after another, and runs the test that must notice: `python -m tests.sabotage [name …]`.

Each runs in a forked child, which breaks its rule and then runs pytest: so the package and pytest are imported once.
Two children run at a time. The name `none` breaks nothing, and runs the tests of all the others. For each one a line of
JSON says how it ended: pytest's exit code, the seconds it took and its last words. `--fit` breaks each rule and runs no
test: it takes seconds, and its exit code is the number of those that no longer fit the code.
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

import hypothesis  # noqa: F401  # before each of the children imports it
import pytest

from tests.sabotage.clauses import SABOTAGES

NOTHING = "none"
_AT_ONCE = 2
_SECONDS_A_TEST = 30
#: None of pytest's exit codes.
_BROKEN = 70
_OPTIONS = (
    *("-x", "-q", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist", f"--timeout={_SECONDS_A_TEST}"),
    # What was imported here is no test.
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
)


def _run(name: str, log: Path) -> int:
    """The life of a child; pytest's exit code."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if name == NOTHING:
        return _run_all()
    SABOTAGES[name].act()
    return int(pytest.main([*_OPTIONS, *shlex.split(SABOTAGES[name].noticed_by)]))


def _run_all() -> int:
    """Run all tests that notice something; those that are chosen by words, one by one."""
    chosen = dict.fromkeys(tuple(shlex.split(each.noticed_by)) for each in SABOTAGES.values() if each.noticed_by)
    plain = [node for (node, *words) in chosen if not words]
    runs = [plain, *(list(each) for each in chosen if len(each) > 1)]
    return max(int(pytest.main([*_OPTIONS, *each])) for each in runs)


def _fork(name: str, log: Path) -> int:
    pid = os.fork()
    if pid == 0:
        code = _BROKEN
        try:
            code = _run(name, log)
        except BaseException:  # noqa: BLE001  # a sabotage that does not fit the code, most likely
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return pid


def unfit() -> list[str]:
    """Break each rule in a forked child of its own; the names of those that do not fit the code, which are printed."""
    found = []
    for name, each in SABOTAGES.items():
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            code = _BROKEN
            try:
                each.act()
                code = 0
            except BaseException as error:  # noqa: BLE001  # whatever it is, it does not fit
                print(f"{name}: {error}", flush=True)
            os._exit(code)
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
            found.append(name)
    return found


def main(names: list[str]) -> None:
    """Run the sabotages of these names, or all of them."""
    waiting = names or [NOTHING, *(name for name, each in SABOTAGES.items() if each.noticed_by)]
    running: dict[int, tuple[str, Path, float]] = {}
    with tempfile.TemporaryDirectory() as directory:
        while waiting or running:
            if waiting and len(running) < _AT_ONCE:
                name = waiting.pop(0)
                log = Path(directory) / name
                running[_fork(name, log)] = name, log, time.monotonic()
                continue
            pid, status = os.wait()
            name, log, began = running.pop(pid)
            seconds = round(time.monotonic() - began, 2)
            said = log.read_text("utf-8", "replace")[-3000:] if log.exists() else ""
            ended = {"name": name, "code": os.waitstatus_to_exitcode(status), "seconds": seconds, "said": said}
            print(json.dumps(ended), flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["--fit"]:
        sys.exit(len(unfit()))
    main(sys.argv[1:])
