"""Every scenario of every model, and for each clause the scenario that goes wrong without it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from . import clocks, commands, commits, counters, crowd, fills, loads, lookups, many, shards, sharing, waiting
from .actors import Scenario

__all__ = ["BEYOND_THE_RULES", "REMOVALS", "SCENARIOS", "Removal"]

SCENARIOS: Final[Mapping[str, Scenario]] = {
    f"{module.__name__.rpartition('.')[2]}: {name}": scenario
    for module in (loads, commits, lookups, clocks, fills, counters, commands, sharing, crowd, waiting, many, shards)
    for name, scenario in module.SCENARIOS.items()
}

#: Known limits: scenarios that go wrong although every clause is in force.
BEYOND_THE_RULES: Final[Mapping[str, Scenario]] = {
    f"commands: {name}": scenario for name, scenario in commands.BEYOND_THE_RULES.items()
}


class Removal(NamedTuple):
    """What goes wrong without a clause.

    Args:
        clause: the clause that is left out, a field of ``Rules``.
        scenario: where it is missed.
        wrong: how what goes wrong is called.
        also: clauses left out as well, because each of the two would do alone; nothing goes wrong without these only.
    """

    clause: str
    scenario: str
    wrong: str
    also: tuple[str, ...] = ()


_TWO_ROWS: Final = "loads: two requests, two writers, two rows dropped"
_LOST_SET: Final = "loads: a request, two writers, a row dropped, a lost set"
_PAGE: Final = "loads: a page, a request, a writer, two rows dropped"
_MANY_TAGS: Final = "lookups: a hit on an entry of many tags"
_ONE_INVALIDATION: Final = "crowd: five requests, an invalidation"

REMOVALS: Final = (
    Removal("epoch_is_compared", _LOST_SET, "STALE"),
    Removal("floor_is_compared", "loads: a request, a writer, clear_all, two rows dropped", "STALE"),
    Removal("forgotten_stands_for_missing_rows", _TWO_ROWS, "STALE"),
    Removal("rows_are_compared", _TWO_ROWS, "STALE"),
    Removal("invalidations_never_lower_a_row", "loads: a stamp set ahead, a request, a writer", "STALE"),
    Removal("clear_all_keeps_later_rows", "loads: a stamp set ahead, a request, clear_all", "STALE"),
    Removal("commits_are_stamped_ahead", "commits: a commit whose process dies, two requests", "STALE"),
    Removal("commits_are_renewed", "commits: a commit whose process dies, two requests", "STALE"),
    Removal("commits_leave_what_others_set_ahead", "commits: two commits, one dies, a request", "STALE"),
    Removal("withdrawals_stamp_nothing", "commits: a rollback, an invalidation, a request", "NEEDLESS"),
    Removal("withdrawals_keep_what_was_stamped", "commits: a rollback, an invalidation, a request", "STALE"),
    Removal("unknown_outcomes_count_as_commits", "commits: a commit without an answer, a request", "STALE"),
    Removal("fills_make_missing_rows", "loads: a request, invalidations of another tag", "NEEDLESS"),
    Removal("rows_are_made_at_forgotten", "loads: a page, an invalidation of another tag", "NEEDLESS"),
    Removal("rows_are_not_made_lower", _TWO_ROWS, "STALE"),
    Removal("dropping_raises_forgotten", _TWO_ROWS, "STALE"),
    Removal("fills_before_forgotten_need_a_row", _TWO_ROWS, "STALE"),
    Removal("only_clear_all_raises_the_floor", "loads: a request, invalidations of another tag", "NEEDLESS"),
    Removal("stamps_are_asked_before_forgotten", _MANY_TAGS, "STALE"),
    Removal("stamps_are_asked_before_forgotten", f"{_MANY_TAGS}, and a load", "STALE"),
    Removal("cut_off_answers_are_checked_whole", _MANY_TAGS, "STALE"),
    Removal("entries_before_forgotten_are_checked_whole", f"{_MANY_TAGS}, and a load", "STALE"),
    Removal("second_trip_asks_everything", "lookups: a hit of two round trips", "STALE"),
    Removal("new_sets_have_a_new_epoch", _LOST_SET, "STALE"),
    Removal("new_sets_begin_at_now", "loads: two requests, a writer, a lost set", "STALE", also=("epoch_is_compared",)),
    Removal("only_lost_sets_are_made_anew", "loads: two requests, a writer, a lost set", "NEEDLESS"),
    Removal("clock_strictly_increases", _TWO_ROWS, "STALE"),
    Removal("as_of_is_heard_before_the_request", _TWO_ROWS, "STALE"),
    Removal("as_of_is_heard_before_the_request", "clocks: steady clocks", "STALE"),
    Removal("as_of_is_not_counted_back", "clocks: TIME steps forward", "STALE"),
    Removal("as_of_is_not_counted_back", "clocks: the process is suspended", "STALE"),
    Removal("as_of_is_not_counted_on", "clocks: TIME steps back", "STALE"),
    Removal("as_of_is_of_this_epoch", _LOST_SET, "STALE"),
    Removal("as_of_is_of_this_epoch", "clocks: a failover to another clock", "STALE"),
    Removal("stamps_ahead_are_not_readings", "loads: a stamp set ahead, a request, a writer", "STALE"),
    Removal("set_takes_the_reading_of_its_context", "fills: two sets in jobs, two invalidations", "STALE"),
    Removal("reads_in_a_load_pass_tags_up", _PAGE, "STALE"),
    Removal("reads_before_a_load_pass_tags_up", _PAGE, "STALE"),
    Removal("memory_copies_pass_tags_up", _PAGE, "STALE"),
    Removal("passed_tags_keep_their_as_of", _PAGE, "STALE"),
    Removal("loads_with_stale_values_are_not_stored", "loads: a page of a value that has expired", "EXPIRED"),
    Removal("loads_with_values_of_another_epoch_are_not_stored", "loads: a page, a writer, a lost set", "STALE"),
    Removal("parts_of_other_shards_count", "shards: an inner and an outer load, a writer", "STALE"),
    Removal("parts_of_other_epochs_are_unknown", "shards: an inner and an outer load, a writer, a failover", "STALE"),
    Removal("invalidations_reach_all_shards", "shards: an inner and an outer load, a writer", "STALE"),
    Removal("release_needs_the_token", "waiting: three requests, a late renewal", "DOUBLE"),
    Removal("fill_needs_the_token", "fills: two loads, a set of what was committed", "REPLACED"),
    Removal("set_voids_the_lease", "fills: two loads, a set of what was committed", "REPLACED"),
    Removal("delete_stamps_the_key", "fills: a load, two deletes", "STALE"),
    Removal("fill_compares_the_key_s_stamp", "fills: a load, two deletes", "STALE"),
    Removal("set_compares_the_key_s_stamp", "fills: two sets of what was read, a delete, an invalidation", "STALE"),
    Removal("write_through_needs_the_token", "fills: a write-through, a set of what was committed", "REPLACED"),
    Removal("write_through_stamps_the_key", "fills: a load, two write-throughs", "STALE"),
    Removal("counters_take_the_clock", "counters: increments, a load, two invalidations", "LOST"),
    Removal("counters_take_the_clock", "counters: additions, a load, two invalidations", "LOST"),
    Removal("counters_void_the_lease", "counters: increments, a load, two invalidations", "LOST"),
    Removal("fill_compares_the_barrier", "fills: two loads, an invalidation by pattern", "STALE"),
    Removal("barrier_is_raised_before_the_walk", "fills: two loads, an invalidation by pattern", "STALE"),
    Removal("leases_expire", "waiting: three requests, a crash, an invalidation", "STUCK"),
    Removal("loads_that_cannot_be_stored_lose_their_lease", _ONE_INVALIDATION, "SLOW"),
    Removal("loads_that_can_be_stored_keep_their_lease", _ONE_INVALIDATION, "WASTED"),
    Removal("takers_can_be_stored", _ONE_INVALIDATION, "SLOW"),
    Removal("leases_are_taken_over_once", "crowd: four requests, two invalidations, loads of equal length", "MANY"),
    Removal("own_keys_are_loaded_before_waiting", "many: many keys, many keys", "STUCK"),
    Removal("waiters_give_up", "waiting: three requests, one hangs", "STUCK"),
    Removal("waiters_give_up", "many: two loads that need each other", "STUCK"),
    Removal("filled_means_another_entry", "waiting: two views under one key", "STUCK"),
    Removal("writes_have_a_deadline", "commands: a late write", "LATE"),
    Removal("deadlines_count_the_time_since_the_reading", "commands: a late write", "REFUSED"),
    Removal("readings_belong_to_a_generation", "commands: a late write, a failover", "LATE"),
    Removal("overtaken_results_need_a_reason", "sharing: two requests, two writers", "STALE"),
    Removal("equal_readings_are_not_a_reason", "sharing: two requests, two writers", "STALE"),
    Removal("own_invalidations_count", "sharing: a request that invalidates, another, a writer", "STALE"),
    Removal("overtaken_results_are_shared", _ONE_INVALIDATION, "MANY"),
    Removal("youngest_waiter_leads", _ONE_INVALIDATION, "MANY"),
    Removal("waiters_wait_twice_at_most", "waiting: four requests, two invalidations", "SLOW"),
)
