"""No read that began after an invalidation returned gives an older value; and a broken rule is found out.

`RACE_SECONDS` in the environment sets how long each race takes; `python -m tests.race` runs them all for a minute each.
"""

from __future__ import annotations

import os

import pytest

from tests.race.harness import Race, found_late, leave_little_room, run_race
from tests.race.outcome import Outcome
from tests.race.scenarios import EVERY_MEANS, EVICTING, EXPIRING, JOINING, NESTED, PLAIN, STORM, TAGGED, Scenario
from tests.race.subject import WAYS
from tests.servers import Server

pytestmark = [pytest.mark.race, pytest.mark.timeout(180 + 7 * float(os.environ.get("RACE_SECONDS", "10")))]

#: Where a sabotaged race gives up; most find something in the first second.
_LONGEST_HUNT = 40.0
#: How much longer a race may go on where too little has happened.
_SLOWEST = 6
#: A reader that waits for a load that never lands does so for `RCACHE_LOAD_TIMEOUT`, 30 s; nothing else takes so long.
_LONGEST_READ = 15.0


def _seconds(default: float) -> float:
    return float(os.environ.get("RACE_SECONDS", default))


def _server(request: pytest.FixtureRequest, name: str) -> Server | None:
    if name == "memory":
        return None
    flavour, _, policy = name.partition(" ")
    if not policy:
        shared: Server = request.getfixturevalue(f"{flavour}_server")
        return shared
    server: Server = request.getfixturevalue("private_server")(flavour)
    leave_little_room(server, policy=policy)
    return server


def _race(
    request: pytest.FixtureRequest,
    scenario: Scenario,
    server: str,
    seconds: float,
    *,
    hits: int = 1,
    invalidations: int = 1,
) -> Outcome:
    """Race for so long, and on until enough has happened on a slow machine; nothing may be stale."""

    def enough(race: Race) -> bool:
        return (
            race.elapsed >= seconds
            and race.total.hits >= hits * seconds
            and race.ledger.invalidations >= invalidations * seconds
        )

    outcome = run_race(scenario, _server(request, server), seconds=_SLOWEST * seconds, until=enough)
    said = outcome.describe()
    print(said)
    assert outcome.stale == 0, said
    assert outcome.total.errors == 0, said
    assert outcome.total.hits >= hits * seconds, f"too little happened: {said}"
    assert outcome.invalidations >= invalidations * seconds, f"too little happened: {said}"
    return outcome


@pytest.mark.parametrize("server", ["redis", "valkey", "memory"])
def test_reads__as_fast_as_they_can__are_never_stale(request, server):
    """A writer and readers that do nothing else: a thousand hits and a hundred invalidations, and none is missed."""
    seconds = _seconds(3.0)
    outcome = _race(request, PLAIN, server, seconds, hits=200, invalidations=10)
    for way in WAYS:
        assert outcome.by_way[way].hits >= 10 * seconds, outcome.describe()


@pytest.mark.parametrize(
    ("scenario", "server"),
    [
        pytest.param(scenario, server, id=f"{scenario.name}-{server}")
        for scenario, server in [
            (JOINING, "redis"),
            (JOINING, "valkey"),
            (JOINING, "memory"),
            (TAGGED, "valkey"),
            (NESTED, "redis"),
            (EVERY_MEANS, "redis"),
        ]
    ],
)
def test_reads__that_meet_overtaken_loads__are_never_stale(request, scenario, server):
    """Loads slow enough to be overtaken, tags found during the load, cached functions inside, every means there is."""
    seconds = _seconds(2.5)
    outcome = _race(request, scenario, server, seconds, hits=30)
    assert outcome.statistics["refused"] > 0, f"no load was overtaken: {outcome.describe()}"
    assert outcome.statistics["collapsed"] > 0, f"nobody shared a load: {outcome.describe()}"


def test_reads__of_expired_entries__are_stale_by_age_only(request):
    """`stale_while_revalidate` serves what has expired, never what was invalidated."""
    seconds = _seconds(2.0)
    outcome = _race(request, EXPIRING, "valkey", seconds)
    assert outcome.statistics["stale"] > 0, f"nothing expired was served: {outcome.describe()}"


@pytest.mark.parametrize("server", ["redis allkeys-lru", "valkey allkeys-random"])
def test_reads__while_the_server_evicts_anything__are_never_stale(request, server):
    """Stamps, leases, indexes and entries are evicted at will: that costs misses, and nothing else."""
    seconds = _seconds(3.0)
    outcome = _race(request, EVICTING, server, seconds, hits=15)  # a lost stamp set is made anew once a second
    assert outcome.evicted > 0, f"nothing was evicted: {outcome.describe()}"


@pytest.mark.parametrize("server", ["redis", "memory"])
def test_reads__in_a_storm_of_invalidations__do_not_starve(request, server):
    """With a thousand invalidations a second no load is in time, and a reader waits for two others' loads at most."""
    seconds = _seconds(3.0)
    outcome = _race(request, STORM, server, seconds, hits=0, invalidations=200)
    assert outcome.total.reads >= 2 * STORM.threads, outcome.describe()
    assert outcome.total.slowest_us / 1e6 <= 3 * STORM.load_seconds + 0.6, outcome.describe()


@pytest.mark.long
@pytest.mark.parametrize(
    ("sabotage", "scenario", "server"),
    [
        pytest.param(sabotage, scenario, server, id=sabotage)
        for sabotage, scenario, server in [
            ("as_of_at_fill", TAGGED, "valkey"),
            ("stamps_unchecked", PLAIN, "redis"),
            ("anyone_joins", JOINING, "valkey"),
            ("nothing_inherited", NESTED, "valkey"),
            ("late_tags_ignored", TAGGED, "redis"),
            ("lost_stamps_forgiven", EVICTING, "valkey allkeys-random"),
        ]
    ],
)
def test_harness__with_one_rule_removed__finds_stale_reads(request, sabotage, scenario, server):
    """The same races, with one rule of the engine broken in every process, must not pass."""
    outcome = run_race(scenario, _server(request, server), seconds=_LONGEST_HUNT, sabotage=sabotage, until=found_late)
    print(outcome.describe())
    assert outcome.stale > 0, f"{sabotage} was not found out: {outcome.describe()}"
