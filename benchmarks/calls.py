"""How much of this package runs in a hit and in a miss: functions and modules, counted with ``sys.setprofile``.

`python -m benchmarks.calls` prints, for each row, how many different functions of ``flask_rcache`` ran, in how many
modules, and how many calls that were; `--list ROW` names them in the order of their first call.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import flask_rcache
from benchmarks.rows import ROWS
from tests.servers import Server, find_binary

_PACKAGE = str(Path(flask_rcache.__file__).parent)
_ROWS = ("memory", "tiered", "redis", "front", "memory-miss", "redis-miss")


def counted(call: Callable[[], object]) -> Counter[tuple[str, str]]:
    """The functions of this package that run in one call: module and name, with the number of their calls."""
    ran: Counter[tuple[str, str]] = Counter()

    def profile(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(_PACKAGE):
            module = frame.f_code.co_filename[len(_PACKAGE) + 1 : -3].replace("/", ".")
            ran[module, frame.f_code.co_qualname] += 1

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    return ran


def main() -> int:
    """Count from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calls", description=__doc__)
    parser.add_argument("--list", metavar="ROW", choices=_ROWS, help="name the functions of one row")
    options = parser.parse_args()
    with Server(find_binary("any")) as server:
        for name in [options.list] if options.list else _ROWS:
            row = ROWS[name](server)
            for _ in range(3):  # what is made once is not counted
                row.verify()
            ran = counted(row.call)
            row.close()
            modules = {module for module, _ in ran}
            print(f"{row.title:24} {len(ran):3} functions in {len(modules):2} modules, {ran.total():3} calls")
            if options.list:
                for (module, function), calls in ran.items():
                    print(f"    {calls} × {module}: {function}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
