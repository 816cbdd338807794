"""The races in their long form: `python -m tests.race --seconds 60`.

Prints the figures of every scenario on Redis, on Valkey and on memory, and ends with 1 when a read was stale.
"""

from __future__ import annotations

import argparse
import sys

from tests.binaries import find_binary
from tests.race.harness import Outcome, leave_little_room, run_race
from tests.race.sabotage import SABOTAGES
from tests.race.scenarios import SCENARIOS, Scenario
from tests.servers import Server

_SERVERS = ("redis", "valkey", "memory")


def _race(scenario: Scenario, flavour: str, seconds: float, sabotage: str) -> Outcome | None:
    if flavour == "memory":
        return None if scenario.fillers else run_race(scenario, None, seconds=seconds, sabotage=sabotage)
    with Server(find_binary(flavour)) as server:  # type: ignore[arg-type]
        if scenario.fillers:
            leave_little_room(server, policy="allkeys-random" if flavour == "valkey" else "allkeys-lru")
        return run_race(scenario, server, seconds=seconds, sabotage=sabotage)


def main() -> int:
    """Run what the command line asks for; 1 when there was a stale read or a failure."""
    parser = argparse.ArgumentParser(prog="python -m tests.race", description="Race the cache for stale reads.")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each race (60)")
    parser.add_argument("--scenario", choices=SCENARIOS, action="append", help="only this one; may be repeated")
    parser.add_argument("--server", choices=_SERVERS, action="append", help="only this one; may be repeated")
    parser.add_argument("--sabotage", choices=SABOTAGES, default="", help="break a rule, to see it found out")
    options = parser.parse_args()
    bad = 0
    for name in options.scenario or SCENARIOS:
        for flavour in options.server or _SERVERS:
            outcome = _race(SCENARIOS[name], flavour, options.seconds, options.sabotage)
            if outcome is not None:
                print(outcome.describe(), flush=True)
                bad += outcome.stale + outcome.total.errors
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())
