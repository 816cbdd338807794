"""The table of instruments: complete, well named, and bounded in its labels."""

from __future__ import annotations

import threading

from flask_rcache.engine.statistics import FIELDS
from flask_rcache.metrics.names import COUNTERS, GAUGES, IN_LATENCY, LATENCY, Labels
from tests.processes import ROOT


def test_table__has_every_counter_of_the_cache() -> None:
    """What the cache counts is exported, and nothing else is promised."""
    assert set(COUNTERS) | IN_LATENCY == set(FIELDS)
    assert not set(COUNTERS) & IN_LATENCY


def test_table__names_are_unique_and_follow_the_rules_of_both() -> None:
    """Counters end with _total, gauges do not, seconds and bytes say so, and no name is there twice."""
    every = [*COUNTERS.values(), *GAUGES.values(), LATENCY]
    assert len({each.prometheus for each in every}) == len(every)
    assert len({each.otel for each in every}) == len(every)
    assert all(each.prometheus.endswith("_total") for each in COUNTERS.values())
    assert not any(each.prometheus.endswith("_total") for each in GAUGES.values())
    for each in every:
        assert each.prometheus.startswith("cache_")
        assert each.otel.startswith("cache.")
        assert ("_seconds" in each.prometheus) == (each.unit == "s"), each
        assert ("_bytes" in each.prometheus) == (each.unit == "By"), each


def test_table__is_the_documentation_s() -> None:
    """The page about metrics has a row for each instrument, with its names and its sentence."""
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = {line for line in page.splitlines() if line.startswith("| `cache_")}
    every = [*COUNTERS.values(), *GAUGES.values()]
    assert rows == {f"| `{each.prometheus}` | `{each.otel}` | {each.help} |" for each in every}
    assert f"`{LATENCY.prometheus}` (`{LATENCY.otel}`)" in page


def test_labels__stand_for_themselves_up_to_the_bound() -> None:
    """The first names are kept, later ones are the others, and no type has a name of its own."""
    labels = Labels(3)
    assert [labels.of(name) for name in ("a", "b", "c", "d", "a", "")] == ["a", "b", "c", "other", "a", "none"]


def test_labels__are_bounded_under_threads() -> None:
    """Threads that come with new names at the same moment do not get past the bound."""
    labels = Labels(10)
    start = threading.Barrier(8)
    seen: set[str] = set()

    def work(number: int) -> None:
        start.wait()
        seen.update(labels.of(f"{number}-{index}") for index in range(50))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen - {"other"}) == 10
    assert "other" in seen
