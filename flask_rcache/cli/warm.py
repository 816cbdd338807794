"""The command ``warm``: run warming tasks now, one after another, or show what is known of them.

Owns what is printed. What a task is and who runs it is ``warming``'s.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Final

import click
from flask import current_app

from .. import audit, signals
from ..context import manager_of
from ..errors import StoreError
from ..warming import Warmer, warmer_of
from .output import Column, Command, Failure, answer, answers, note_memory, seconds_text, store_away, table, user

__all__ = ["warm"]

_COLUMNS: Final = (
    Column("TASK"),
    Column("EVERY", right=True),
    Column("RUNS", right=True),
    Column("FAILED", right=True),
    Column("TOOK", right=True),
    Column("STATE"),
)


@click.command(cls=Command, name="warm")
@click.argument("names", metavar="[NAME...]", nargs=-1)
@click.option("--list", "only_list", is_flag=True, help="Show the tasks and their figures; run nothing.")
@answers
def warm(*, names: tuple[str, ...], only_list: bool, as_json: bool) -> None:
    """Run warming tasks now, all or those named.

    They run one after another.
    """
    manager = manager_of(current_app)
    warmer = warmer_of(current_app)
    if warmer is None or not warmer.check(()):
        if names:
            raise Failure("unknown_task", f"There is no warming task {names[0]!r}: none is registered.", exit_code=2)
        answer({"status": "success", "tasks": []}, "No warming task is registered.", as_json=as_json)
        return
    chosen = warmer.check(names)
    note_memory(manager)
    try:
        if only_list:
            _show(warmer, chosen, as_json=as_json)
        else:
            _run(warmer, chosen, as_json=as_json)
    except StoreError as error:
        raise store_away(error) from error


def _show(warmer: Warmer, names: list[str], *, as_json: bool) -> None:
    tasks = [task for task in warmer.report() if task["name"] in names]
    rows = [
        (
            task["name"],
            seconds_text(task["every"]),
            str(task["execution_count"]),
            str(task["failure_count"]),
            f"{task['duration']:.3f} s",
            "runs now" if task["running"] else task["error"] or ("ok" if task["execution_count"] else "not run yet"),
        )
        for task in tasks
    ]
    answer({"status": "success", "tasks": tasks}, table(_COLUMNS, rows), as_json=as_json)


def _run(warmer: Warmer, names: list[str], *, as_json: bool) -> None:
    results: list[dict[str, Any]] = []
    runs = warmer.run(names)
    if sys.stderr.isatty():
        with click.progressbar(runs, length=len(names), label="Warming", file=sys.stderr) as bar:
            results.extend(_result(*each) for each in bar)
    else:
        results.extend(_result(*each) for each in runs)
    audit.record(signals.Audited(user(), "warm", tuple(names), len(results)), level=logging.INFO)
    failed = [each for each in results if each["error"]]
    if failed:
        first = failed[0]
        raise Failure(
            "failed",
            f"{len(failed)} of {len(results)} tasks failed; {first['name']!r}: {first['error']}",
            results=results,
        )
    lines = [f"{each['name']}: {'runs in another process already' if each['running'] else 'done'}" for each in results]
    answer({"status": "success", "results": results}, "\n".join(lines), as_json=as_json)


def _result(name: str, error: BaseException | None, is_busy: bool) -> dict[str, Any]:
    return {"name": name, "running": is_busy, "error": None if error is None else f"{type(error).__name__}: {error}"}
