"""The clauses of rules R1 to R4 and R6 that the models know: all in force, and each can be left out.

A model asks for the clauses it is about and takes the others for granted. A field says what holds while it is true;
its comment says what is done instead when it is left out, where that is not plain.
"""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields, replace

__all__ = ["Rules"]


def _clause(number: str) -> bool:
    """A clause of a rule, in force."""
    rule: bool = field(default=True, metadata={"number": number})
    return rule


@dataclass(frozen=True, slots=True)
class Rules:
    """Which clauses are in force."""

    # R1.2: what makes an entry valid.
    epoch_is_compared: bool = _clause("R1.2")
    floor_is_compared: bool = _clause("R1.2")
    forgotten_stands_for_missing_rows: bool = _clause("R1.2")
    rows_are_compared: bool = _clause("R1.2")
    # R1.3: what writes rows.
    invalidations_never_lower_a_row: bool = _clause("R1.3")
    clear_all_keeps_later_rows: bool = _clause("R1.3")
    fills_make_missing_rows: bool = _clause("R1.3")
    rows_are_made_at_forgotten: bool = _clause("R1.3")  # else at the load's own
    rows_are_not_made_lower: bool = _clause("R1.3")  # else at 0
    # R1.3: stamps ahead of the clock, while a commit is under way.
    commits_are_stamped_ahead: bool = _clause("R1.3")  # else when they are over
    commits_are_renewed: bool = _clause("R1.3")
    commits_leave_what_others_set_ahead: bool = _clause("R1.3")  # else one that ends takes theirs away
    withdrawals_stamp_nothing: bool = _clause("R1.3")  # else as if something had been committed
    withdrawals_keep_what_was_stamped: bool = _clause("R1.3")
    unknown_outcomes_count_as_commits: bool = _clause("R1.3")
    # R1.4: rows may be dropped.
    dropping_raises_forgotten: bool = _clause("R1.4")
    fills_before_forgotten_need_a_row: bool = _clause("R1.4")
    # R1.5
    only_clear_all_raises_the_floor: bool = _clause("R1.5")  # else each drop does
    # R1.6: a hit on an entry of many tags, and one that costs a second round trip.
    stamps_are_asked_before_forgotten: bool = _clause("R1.6")
    cut_off_answers_are_checked_whole: bool = _clause("R1.6")
    entries_before_forgotten_are_checked_whole: bool = _clause("R1.6")
    second_trip_asks_everything: bool = _clause("R1.6")  # else the unknown tags only
    # R1.7: a lost set.
    new_sets_have_a_new_epoch: bool = _clause("R1.7")
    new_sets_begin_at_now: bool = _clause("R1.7")  # floor and =forgotten; else at 0
    only_lost_sets_are_made_anew: bool = _clause("R1.7")  # else by each load that knows another epoch
    # R2
    clock_strictly_increases: bool = _clause("R2")
    # Topologies: on a cluster.
    parts_of_other_shards_count: bool = _clause("R3.4")  # else what is built on an entry is as new as its own load
    parts_of_other_epochs_are_unknown: bool = _clause("R3.4")
    invalidations_reach_all_shards: bool = _clause("R1.3")  # else one is enough for the call to return
    # R3.1: as_of.
    as_of_is_heard_before_the_request: bool = _clause("R3.1")  # else before the load
    as_of_is_not_counted_back: bool = _clause(
        "R3.1"
    )  # else the load's reading minus the local time since the beginning
    as_of_is_not_counted_on: bool = _clause("R3.1")  # else the reading heard plus the local time since
    as_of_is_of_this_epoch: bool = _clause("R3.1")
    stamps_ahead_are_not_readings: bool = _clause("R3.1")
    # R3.2
    set_takes_the_reading_of_its_context: bool = _clause("R3.2")  # else that of the call
    # R3.4: loads nest.
    reads_in_a_load_pass_tags_up: bool = _clause("R3.4")
    reads_before_a_load_pass_tags_up: bool = _clause("R3.4")
    memory_copies_pass_tags_up: bool = _clause("R3.4")
    passed_tags_keep_their_as_of: bool = _clause("R3.4")  # else they get the load's own
    loads_with_stale_values_are_not_stored: bool = _clause("R3.4")
    loads_with_values_of_another_epoch_are_not_stored: bool = _clause("R3.4")
    # R4.1
    release_needs_the_token: bool = _clause("R4.1")
    # R4.2: a fill needs its lease.
    fill_needs_the_token: bool = _clause("R4.2")
    set_voids_the_lease: bool = _clause("R4.2")
    delete_stamps_the_key: bool = _clause("R4.2")
    fill_compares_the_key_s_stamp: bool = _clause("R4.2")
    set_compares_the_key_s_stamp: bool = _clause("R4.2")
    write_through_needs_the_token: bool = _clause("R4.2")
    write_through_stamps_the_key: bool = _clause("R4.2")
    counters_take_the_clock: bool = _clause("R4.2")  # else the reading heard
    counters_void_the_lease: bool = _clause("R4.2")
    fill_compares_the_barrier: bool = _clause("R4.2")
    barrier_is_raised_before_the_walk: bool = _clause("R4.2")
    # R4.3: who waits for whom.
    leases_expire: bool = _clause("R4.3")
    loads_that_cannot_be_stored_lose_their_lease: bool = _clause("R4.3")
    loads_that_can_be_stored_keep_their_lease: bool = _clause("R4.3")
    takers_can_be_stored: bool = _clause("R4.3")
    leases_are_taken_over_once: bool = _clause("R4.3")
    own_keys_are_loaded_before_waiting: bool = _clause("R4.3")
    waiters_give_up: bool = _clause("R4.3")
    filled_means_another_entry: bool = _clause("R4.3")
    # R4.4: late commands.
    writes_have_a_deadline: bool = _clause("R4.4")
    deadlines_count_the_time_since_the_reading: bool = _clause("R4.4")
    readings_belong_to_a_generation: bool = _clause("R4.4")
    # R6: sharing another's load.
    overtaken_results_need_a_reason: bool = _clause("R6")
    equal_readings_are_not_a_reason: bool = _clause("R6")  # else: the load's as_of is not before the reader's
    own_invalidations_count: bool = _clause("R6")
    overtaken_results_are_shared: bool = _clause("R6")
    youngest_waiter_leads: bool = _clause("R6")  # else the eldest
    waiters_wait_twice_at_most: bool = _clause("R6")

    @classmethod
    def numbers(cls) -> dict[str, str]:
        """The name of each clause, and the rule it belongs to."""
        listed: tuple[Field[bool], ...] = fields(cls)
        return {clause.name: clause.metadata["number"] for clause in listed}

    def without(self, *clauses: str) -> Rules:
        """The same rules with clauses left out."""
        return replace(self, **dict.fromkeys(clauses, False))
