"""Every benchmark that the documentation quotes, one after another: `make bench`.

Each is a process of its own and prints its table; those with `--publish` write it with its plot into the documentation.
The last line says how long it took; the goal is less than fifteen minutes on two cores. `--quick` makes small runs,
whose figures say only that the commands work.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence

from tests.processes import ROOT

#: The arguments of each, and those of a quick run.
BENCHMARKS: dict[str, tuple[list[str], list[str]]] = {
    "benchmarks": (["--publish"], ["--rounds", "5", "--calls", "50"]),
    "benchmarks.redis_hit": (["--publish"], ["--rounds", "5", "--calls", "50"]),
    "benchmarks.miss": (["--publish"], []),
    "benchmarks.gateway": (["--publish"], ["--rounds", "1", "--seconds", "1"]),
    "benchmarks.stampede": (["--publish"], ["--rounds", "1"]),
    "benchmarks.invalidation": (["--publish"], ["--entries", "50000"]),
    "benchmarks.sizing": (["--entries", "5000", "--publish"], ["--entries", "1000"]),
    "benchmarks.growth": (["--publish"], ["--entries", "20000", "--seconds", "1"]),
    "benchmarks.outage": (["--publish"], ["--requests", "3", "--cap", "6"]),
    "benchmarks.sql": (["--rows", "--publish"], ["--rounds", "20"]),
    "benchmarks.fragments": (["--publish"], ["--rounds", "2"]),
    "benchmarks.bus": (["--publish"], ["--invalidations", "20"]),
    "benchmarks.metrics": (["--publish"], ["--rounds", "2", "--calls", "50"]),
    "benchmarks.writes": ([], ["--writes", "2000"]),
    "benchmarks.cluster": ([], ["--rounds", "5", "--seconds", "1"]),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run them from the command line; the exit code is the number of those that failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.suite", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small runs, and nothing is written")
    parser.add_argument("--only", help="which, with commas between: " + ",".join(BENCHMARKS))
    options = parser.parse_args(argv)
    names = options.only.split(",") if options.only else list(BENCHMARKS)
    if unknown := [name for name in names if name not in BENCHMARKS]:
        parser.error(f"unknown benchmarks {unknown}; known: {', '.join(BENCHMARKS)}")
    failed, started = [], time.monotonic()
    for name in names:
        thorough, quick = BENCHMARKS[name]
        arguments = quick if options.quick else thorough
        began = time.monotonic()
        print(f"\n=== python -m {name} {' '.join(arguments)}".rstrip(), flush=True)
        done = subprocess.run([sys.executable, "-m", name, *arguments], cwd=ROOT, check=False)
        print(f"--- {time.monotonic() - began:.0f} s", flush=True)
        if done.returncode:
            failed.append(name)
    print(f"\n{len(names)} benchmarks in {(time.monotonic() - started) / 60:.1f} minutes", flush=True)
    if failed:
        print(f"failed, or missed a goal: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
