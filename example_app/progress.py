"""How a long preparation shows itself: a bar on a terminal, a few plain lines in a log."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self, TextIO

import click


class Progress:
    """Counts steps, and shows them as a bar or as one line per quarter.

    Args:
        label: What is going on.
        total: How many steps there are.
        stream: Where to write; standard error unless given.
    """

    def __init__(self, label: str, total: int, *, stream: TextIO | None = None) -> None:
        self._label = label
        self._total = total
        self._done = 0
        self._stream = stream if stream is not None else sys.stderr
        step = max(1, total // 100)
        self._bar = (
            click.progressbar(length=total, label=label, file=self._stream, update_min_steps=step)
            if self._stream.isatty()
            else None
        )

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.__enter__()
        else:
            self._line(f"{self._label} ...")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.__exit__(kind, error, trace)

    def advance(self, steps: int) -> None:
        """Count `steps` more."""
        before, self._done = self._done, self._done + steps
        if self._bar is not None:
            self._bar.update(steps)
            return
        quarter = self._done * 4 // self._total
        if quarter > before * 4 // self._total:
            self._line(f"  {quarter * 25} % of {self._total:,} rows")

    def _line(self, text: str) -> None:
        print(text, file=self._stream, flush=True)
