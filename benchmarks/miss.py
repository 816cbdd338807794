"""Where a miss goes: `python -m benchmarks.miss`.

One miss with the memory store and one call of a bare view are traced, and each instruction of Python's bytecode is
counted for the part that it is run in. What runs in C is not counted. The figures are the same on each machine.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import flask_rcache
from benchmarks import report
from benchmarks.rows import ROWS
from tests.servers import Server, find_binary

_PACKAGE = str(Path(flask_rcache.__file__).parent)
_FRAMEWORK = "Flask, Werkzeug and the view"

#: The parts, each with the functions that it begins with; what these call belongs to it, unless it begins another one.
PARTS = {
    _FRAMEWORK: ("Flask.wsgi_app", "Counter.respond", "Response.__call__"),
    "the request begins: its scope, and the record of what is read": (
        "InScope.__call__",
        "_on_pushed",
        "_observing.<locals>.preprocess_request",
    ),
    "the lookup: key, read, what the miss holds": ("_wrapper.<locals>.cached",),
    "the load begins: who leads it, what it will depend on": ("Exchange.admit",),
    "its lease in the store": ("GuardedStore.begin",),
    "around the view: what it reads": ("Exchange.__enter__", "Exchange.__exit__"),
    "the response: judged, marked, tagged": ("conclude",),
    "the final headers: judged again, marked": ("_before_session", "_on_finished"),
    "the load ends: who waited, statistics": ("Exchange.end",),
    "its entry in the store": ("GuardedStore.fill",),
}
_BEGINS = {name: part for part, names in PARTS.items() for name in names}


class Traced:
    """What ran in one call.

    Attributes:
        instructions: of bytecode, by part.
        calls: of functions of this package, by part.
    """

    def __init__(self, call: Callable[[], object]) -> None:
        self.instructions: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self._parts = [_FRAMEWORK]
        sys.settrace(self._enter)
        try:
            call()
        finally:
            sys.settrace(None)

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        code: CodeType = frame.f_code
        part = _BEGINS.get(code.co_qualname, self._parts[-1])
        self._parts.append(part)
        self.calls[part] += code.co_filename.startswith(_PACKAGE)
        frame.f_trace_opcodes, frame.f_trace_lines = True, False

        def trace(frame: FrameType, event: str, argument: Any) -> Any:
            if event == "opcode":
                self.instructions[part] += 1
            elif event == "return":
                self._parts.pop()
            return trace

        return trace


def measured(server: Server) -> list[tuple[str, str, str, str]]:
    """The rows of the table."""
    bare, miss = ROWS["bare"](server), ROWS["memory-miss"](server)
    for row in (bare, miss):
        for _ in range(3):  # what is made once is not counted
            row.verify()
    plain, traced = Traced(bare.call), Traced(miss.call)
    for row in (bare, miss):
        row.close()
    whole = plain.instructions.total()
    rows = [("a bare view", whole, 0)]
    rows += [(part, traced.instructions[part], traced.calls[part]) for part in PARTS]
    rows.append(("a miss in all", traced.instructions.total(), traced.calls.total()))
    return [(part, f"{count:,}", f"{count / whole:.2f}", f"{calls:,}") for part, count, calls in rows]


def main() -> int:
    """Count from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.miss", description=__doc__)
    report.options(parser)
    options = parser.parse_args()
    with Server(find_binary("any")) as server:
        rows = measured(server)
    report.show(
        report.Report(
            name="miss",
            title="Where a miss with the memory store goes",
            command="python -m benchmarks.miss",
            method="Bytecode instructions of one call each, and calls of functions of this package.",
            columns=("", "instructions", "× bare view", "our calls"),
            rows=rows,
            bars=[],
            unit="",
        ),
        publish=options.publish,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
