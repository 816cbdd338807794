"""The races in their long form: `python -m tests.race --seconds 60`.

Prints the figures of every scenario on Redis, on Valkey and on memory, and ends with 1 when a read was staler than the
scenario allows. `--scenario fleet --chaos` cuts the bus, stops the server and kills workers on the way.
"""

from __future__ import annotations

import argparse
import sys

from tests.binaries import find_binary
from tests.race.harness import leave_little_room, run_race
from tests.race.outcome import Outcome
from tests.race.scenarios import SCENARIOS, Scenario
from tests.sabotage.clauses import SABOTAGES
from tests.servers import Server

_SERVERS = ("redis", "valkey", "memory")
_HITS_UNDER_CHAOS = 10_000  # in a minute


def _race(scenario: Scenario, flavour: str, seconds: float, sabotage: str, chaos: bool) -> Outcome | None:
    if flavour == "memory":
        if scenario.fillers or chaos:
            return None
        return run_race(scenario, None, seconds=seconds, sabotage=sabotage)
    with Server(find_binary(flavour)) as server:  # type: ignore[arg-type]
        if scenario.fillers:
            leave_little_room(server, policy="allkeys-random" if flavour == "valkey" else "allkeys-lru")
        return run_race(scenario, server, seconds=seconds, sabotage=sabotage, chaos=chaos)


def _is_bad(outcome: Outcome, chaos: bool) -> bool:
    if chaos and outcome.total.hits < _HITS_UNDER_CHAOS * min(1.0, outcome.seconds / 60):
        print(f"  only {outcome.total.hits} hits: that shows too little")
        return True
    return outcome.late + outcome.total.errors > 0


def main() -> int:
    """Run what the command line asks for; 1 when there was a stale read or a failure."""
    parser = argparse.ArgumentParser(prog="python -m tests.race", description="Race the cache for stale reads.")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each race (60)")
    parser.add_argument("--scenario", choices=SCENARIOS, action="append", help="only this one; may be repeated")
    parser.add_argument("--server", choices=_SERVERS, action="append", help="only this one; may be repeated")
    parser.add_argument("--sabotage", choices=SABOTAGES, default="", help="break a rule, to see it found out")
    parser.add_argument("--chaos", action="store_true", help="cut the bus, stop the server, kill workers")
    options = parser.parse_args()
    bad = False
    for name in options.scenario or SCENARIOS:
        for flavour in options.server or _SERVERS:
            outcome = _race(SCENARIOS[name], flavour, options.seconds, options.sabotage, options.chaos)
            if outcome is not None:
                print(outcome.describe(), flush=True)
                bad = _is_bad(outcome, options.chaos) or bad
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
