"""``python -m tests.model [WORD]``: what goes wrong without each clause whose name or rule contains the word."""

from __future__ import annotations

import sys

from .explorer import explore
from .rules import Rules
from .table import REMOVALS, SCENARIOS


def main(word: str = "") -> None:
    """Print the counterexamples."""
    numbers = Rules.numbers()
    for removal in REMOVALS:
        title = f"{numbers[removal.clause]} without {' and '.join((removal.clause, *removal.also))}"
        if word.lower() in title.lower():
            finding = explore(SCENARIOS[removal.scenario](Rules().without(removal.clause, *removal.also)))
            print(f"{title}\n  {removal.scenario}\n  {finding}\n")


if __name__ == "__main__":
    main(*sys.argv[1:2])
