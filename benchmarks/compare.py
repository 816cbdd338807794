"""Another revision and this one, in turns: whether a change made hits or misses slower.

`python -m benchmarks.compare REVISION` checks that revision out into a temporary folder and measures each row in
processes of the two trees, one after the other, several times. Printed are medians of both trees' figures, each beside
a bare view of the same process, and of the ratios pair by pair.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.machine import choose_cores
from tests.servers import Server, find_binary

_HERE = Path(__file__).parent.parent
_ROWS = ("memory", "tiered", "redis", "memory-miss", "redis-miss")


def _one(tree: Path, row: str, server: Server, rounds: int, core: int | None) -> float:
    """Microseconds that a call of a row takes more than one of a bare view, in a process of a tree."""
    environ = {**os.environ, "PYTHONPATH": str(tree), "BENCH_CORE": "" if core is None else str(core)}
    command = [sys.executable, str(_HERE / "benchmarks" / "one_row.py"), row, server.url, str(rounds)]
    done = subprocess.run(command, env=environ, cwd=tree, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{row} in {tree} failed: {done.stderr[-2000:]}")
    return float(done.stdout)


def main() -> int:
    """Compare from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("revision")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--rows", default=",".join(_ROWS))
    options = parser.parse_args()
    cores = choose_cores()
    with tempfile.TemporaryDirectory() as folder, Server(find_binary("any")) as server:
        other = Path(folder) / "tree"
        subprocess.run(["git", "worktree", "add", "--detach", other, options.revision], cwd=_HERE, check=True)
        try:
            if cores.server is not None:
                os.sched_setaffinity(server.pid, {cores.server})
            print(f"{'':12} {'× bare before':>14} {'× bare now':>11} {'now/before':>11}")
            for row in options.rows.split(","):
                before, now = [], []
                for _ in range(options.pairs):
                    before.append(_one(other, row, server, options.rounds, cores.client))
                    now.append(_one(_HERE, row, server, options.rounds, cores.client))
                ratio = statistics.median(new / old for new, old in zip(now, before, strict=True))
                print(f"{row:12} {statistics.median(before):14.2f} {statistics.median(now):11.2f} {ratio:11.3f}")
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", other], cwd=_HERE, check=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
