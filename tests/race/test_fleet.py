"""A fleet with memory tiers, tormented: how old the oldest answer is that anybody serves after an invalidation.

`RACE_SECONDS` in the environment sets how long the two races take that must pass; the long form is
`python -m tests.race --scenario fleet --seconds 60 --chaos`, which also wants ten thousand hits.
"""

from __future__ import annotations

import os

import pytest

from tests.race.harness import Race, found_late, run_race
from tests.race.outcome import Outcome
from tests.race.scenarios import EXACT_FLEET, FLEET, Scenario
from tests.servers import Server

_SECONDS = float(os.environ.get("RACE_SECONDS", "8"))
#: After half of all invalidations nobody is given anything older for longer than this. Far above what the bus takes, so
#: that a slow machine keeps to it, and far below what a deaf one leaves to `l1_ttl`.
_TYPICAL_US = 150_000
#: A machine that is slow goes on until enough has happened, so long at most.
_LONGEST = _SECONDS + 75

pytestmark = [pytest.mark.race, pytest.mark.chaos, pytest.mark.timeout(150 + _LONGEST)]


def _told(outcome: Outcome) -> str:
    said = outcome.describe()
    print(said)
    return said


def _torment(scenario: Scenario, server: Server, *, seconds: float) -> tuple[Outcome, str]:
    """Race for so long, and on until it shows something: much was read, and everything was done to the fleet."""

    def enough(race: Race) -> bool:
        done, wanted = race.torments, 2 if scenario.l1_ttl else 0
        return (
            race.elapsed >= seconds
            and race.total.hits >= 100 * seconds
            and race.ledger.invalidations >= 2 * seconds
            and race.ledger.journalled > 0
            and min(done.stops, done.connections, done.kills) > 0
            and min(done.cuts, done.aimed, done.subscriptions) >= wanted
        )

    with Race(scenario, server, seconds=_LONGEST) as race:
        race.start()
        race.wait(until=enough, chaos=True)
        shown = enough(race)
    outcome = race.outcome()
    said = _told(outcome)
    assert shown, f"too little happened: {said}"
    assert outcome.total.errors == 0, said
    return outcome, said


def test_fleet__cut_off_stopped_and_killed__serves_nothing_older_than_its_hold(private_server):
    """Messages are lost, Redis stands still, workers die: what is served was outdated for `l1_ttl` at most."""
    outcome, said = _torment(FLEET, private_server("redis"), seconds=_SECONDS)
    assert outcome.late == 0, said
    assert outcome.oldest.p50_us <= _TYPICAL_US, f"as a rule the bus brings it much sooner: {said}"


def test_fleet__without_a_hold__serves_nothing_outdated_at_all(private_server):
    """The same torments, and `l1_ttl=0`: not one read is older than the last invalidation that returned."""
    outcome, said = _torment(EXACT_FLEET, private_server("valkey"), seconds=_SECONDS / 2)
    assert outcome.stale == 0, said


@pytest.mark.long
def test_harness__with_a_deaf_bus__reports_ages_up_to_the_hold(private_server):
    """No message is heard while the bus looks alive: old answers are the rule, and the hold still bounds them."""

    def enough(race: Race) -> bool:
        if race.ledger.invalidations < 50 or race.total.oldest_us < 1_500_000:
            return False
        return race.oldest.p50_us > 2 * _TYPICAL_US  # a few more invalidations may follow

    server = private_server("valkey")
    outcome = run_race(FLEET, server, seconds=_LONGEST, sabotage="deaf_bus", chaos=True, until=enough)
    said = _told(outcome)
    assert outcome.oldest.p50_us > _TYPICAL_US, said
    assert outcome.ages.max_us >= 1_500_000, said
    assert outcome.late == 0, said


@pytest.mark.long
def test_harness__with_an_endless_hold__finds_answers_that_are_too_old(private_server):
    """A message lost in a cut is missed for ever: that is found out."""
    server = private_server("redis")
    outcome = run_race(FLEET, server, seconds=_LONGEST, sabotage="endless_hold", chaos=True, until=found_late)
    said = _told(outcome)
    assert outcome.late > 0, f"it was not found out: {said}"
