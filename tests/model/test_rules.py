"""Rules R1 to R4 and R6: no interleaving breaks them as they are, and each clause is missed when it is left out."""

from __future__ import annotations

import pytest

from .explorer import explore
from .rules import Rules
from .table import BEYOND_THE_RULES, REMOVALS, SCENARIOS, Removal


@pytest.mark.parametrize("name", SCENARIOS)
def test_rules__no_counterexample(name: str) -> None:
    """With every clause in force nothing goes wrong, whatever the order of events."""
    finding = explore(SCENARIOS[name](Rules()))
    assert not finding.wrong, str(finding)


@pytest.mark.parametrize(
    "removal", REMOVALS, ids=lambda removal: f"{Rules.numbers()[removal.clause]}-{removal.clause}-{removal.scenario}"
)
def test_rules__counterexample_without_a_clause(removal: Removal) -> None:
    """Each clause is there for a reason: without it, this goes wrong."""
    model = SCENARIOS[removal.scenario]
    finding = explore(model(Rules().without(removal.clause, *removal.also)))
    assert finding.wrong.partition(":")[0] == removal.wrong, str(finding)
    assert finding.steps
    if removal.also:
        assert not explore(model(Rules().without(*removal.also))).wrong


def test_rules__every_clause_is_left_out_once() -> None:
    """A clause that nobody leaves out might as well not be in the models."""
    assert {removal.clause for removal in REMOVALS} == set(Rules.numbers())


@pytest.mark.parametrize("name", BEYOND_THE_RULES)
def test_rules__known_limits(name: str) -> None:
    """What the rules do not promise is known; when this fails, they have become better: say so in the docs."""
    assert explore(BEYOND_THE_RULES[name](Rules())).wrong
