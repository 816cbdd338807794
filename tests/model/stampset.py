"""The stamp set (rule R1) as the models see it, and the entries that are checked against it.

Whether an entry is valid is asked of the function that the stores ask, :func:`flask_rcache.model.entry.is_valid`; a
clause is left out of it by what it is given. Which ``as_of`` a tag gets is asked of
:class:`~flask_rcache.model.entry.Draft`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from flask_rcache.model.entry import Draft, Entry, is_valid

from .rules import Rules

__all__ = [
    "Copy",
    "Moment",
    "Refusal",
    "StampSet",
    "clear",
    "drop",
    "end_commit",
    "fill",
    "holds",
    "invalidate",
    "set_ahead",
]


class Moment(NamedTuple):
    """A reading of the store's clock, and the epoch it was read in."""

    epoch: int
    clock: int

    def __str__(self) -> str:
        return f"{self.clock} of epoch {self.epoch}"


class StampSet(NamedTuple):
    """One shard's set. ``epoch`` is 0 while the set is lost."""

    epoch: int = 1
    clock: int = 1
    floor: int = 0
    forgotten: int = 0
    rows: tuple[tuple[str, int], ...] = ()
    ahead: tuple[tuple[str, int, int], ...] = ()
    """Of commits under way: the tag, whose commit it is, and how far the tag is set ahead for it."""
    bases: tuple[tuple[str, int], ...] = ()
    """What the rows of such tags would be otherwise."""
    epochs: int = 1
    """How many epochs there were; a new one takes the next number."""

    @property
    def is_lost(self) -> bool:
        """Whether it was lost and is not made anew yet."""
        return not self.epoch

    @property
    def moment(self) -> Moment:
        """What a process that hears of it now hears."""
        return Moment(self.epoch, self.clock)

    def row(self, tag: str) -> int | None:
        """The stamp of a tag, if it has a row."""
        return dict(self.rows).get(tag)

    def with_rows(self, rows: dict[str, int]) -> StampSet:
        """The set with other rows."""
        return self._replace(rows=tuple(sorted(rows.items())))

    def with_bases(self, bases: dict[str, int]) -> StampSet:
        """The set with other bases of rows that are ahead."""
        return self._replace(bases=tuple(sorted(bases.items())))

    def ticked(self, rules: Rules) -> StampSet:
        """The set after a script has read the clock."""
        return self._replace(clock=self.clock + 1) if rules.clock_strictly_increases else self

    def lost(self, *, clock: int) -> StampSet:
        """The set after it was evicted or flushed; its clock goes on at ``clock``."""
        return StampSet(epoch=0, clock=clock, epochs=self.epochs)

    def made_anew(self, rules: Rules) -> StampSet:
        """The set after a heartbeat has found it missing."""
        epochs = self.epochs + 1 if rules.new_sets_have_a_new_epoch else self.epochs
        now = self.clock + 1
        since = now if rules.new_sets_begin_at_now else 0
        return StampSet(epoch=epochs, clock=now, floor=since, forgotten=since, epochs=epochs)


class Copy(NamedTuple):
    """An entry, in a store or in a process's memory.

    ``value`` is the version of the source that it shows. ``was_touched`` says whether anything has happened since the
    fill that may make it invalid: an invalidation of its tag, the loss of its row or of the set.
    """

    epoch: int
    as_of: int
    tags: tuple[tuple[str, int], ...]
    value: int
    is_stale: bool = False
    was_touched: bool = False


def holds(copy: Copy, stamps: StampSet, rules: Rules) -> bool:
    """Rule R1.2: whether an entry is valid."""
    if stamps.is_lost:
        return False
    entry = Entry(content=b"", epoch=copy.epoch, as_of=copy.as_of, created=copy.as_of, ttl=1.0, tags=copy.tags)
    rows = dict(stamps.rows)
    return is_valid(
        entry,
        epoch=stamps.epoch if rules.epoch_is_compared else copy.epoch,
        floor=stamps.floor if rules.floor_is_compared else 0,
        forgotten=stamps.forgotten if rules.forgotten_stands_for_missing_rows else 0,
        rows=rows if rules.rows_are_compared else dict.fromkeys(rows, 0),
    )


def invalidate(stamps: StampSet, tag: str, rules: Rules, *, ahead: int = 0) -> StampSet:
    """Rule R1.3: the set after a tag was stamped, ``ahead`` of the clock perhaps. A lost set keeps nothing."""
    stamps = stamps.ticked(rules)
    if stamps.is_lost:
        return stamps
    stamp = stamps.clock + ahead
    if rules.invalidations_never_lower_a_row:
        stamp = max(stamp, stamps.row(tag) or 0)
    if (stamps.row(tag) or 0) >= stamps.clock and rules.withdrawals_keep_what_was_stamped:
        stamps = stamps.with_bases({**dict(stamps.bases), tag: stamps.clock})
    return stamps.with_rows({**dict(stamps.rows), tag: stamp})


def set_ahead(stamps: StampSet, tag: str, owner: int, rules: Rules, *, by: int) -> StampSet:
    """Rule R1.3: the set after a commit has set a tag ahead of the clock, or has renewed that."""
    stamps = stamps.ticked(rules)
    if stamps.is_lost:
        return stamps
    row, stamp = stamps.row(tag), stamps.clock + by
    if row is None or (row <= stamps.clock and (tag, owner, row) not in stamps.ahead):
        stamps = stamps.with_bases({**dict(stamps.bases), tag: stamps.forgotten if row is None else row})
    others = tuple(each for each in stamps.ahead if each[:2] != (tag, owner))
    stamps = stamps._replace(ahead=tuple(sorted((*others, (tag, owner, stamp)))))
    return stamps.with_rows({**dict(stamps.rows), tag: max(row or 0, stamp)})


def end_commit(stamps: StampSet, tag: str, owner: int, rules: Rules, *, withdrawn: bool = False) -> StampSet:
    """Rule R1.3: the set after a commit is over, or was withdrawn."""
    stamps = stamps.ticked(rules)
    if stamps.is_lost:
        return stamps
    row = stamps.row(tag)
    is_own = any(each[:2] == (tag, owner) for each in stamps.ahead)
    others = tuple(each for each in stamps.ahead if each[:2] != (tag, owner))
    left = [stamp for each, _, stamp in others if each == tag and stamp > stamps.clock]
    base = stamps.clock
    if withdrawn and rules.withdrawals_stamp_nothing:
        is_ahead = bool(left) or (is_own and ((row or 0) > stamps.clock or (tag, owner, row) in stamps.ahead))
        known = dict(stamps.bases).get(tag, stamps.clock)
        base = known if is_ahead else stamps.forgotten if row is None else row
    if not rules.commits_leave_what_others_set_ahead:
        left, others = [], ()
    bases = {**dict(stamps.bases), tag: base}
    if not left:
        del bases[tag]
    stamps = stamps._replace(ahead=others).with_bases(bases)
    return stamps.with_rows({**dict(stamps.rows), tag: max(base, *left, 0)})


def clear(stamps: StampSet, rules: Rules) -> StampSet:
    """Rules R1.3 and R1.5: the set after ``clear_all``."""
    stamps = stamps.ticked(rules)
    if stamps.is_lost:
        return stamps
    later = {tag: stamp for tag, stamp in stamps.rows if stamp > stamps.clock and rules.clear_all_keeps_later_rows}
    return stamps.with_rows(later)._replace(floor=stamps.clock, bases=())


def drop(stamps: StampSet, tag: str, rules: Rules) -> StampSet:
    """Rules R1.4 and R1.5: the set after a row was dropped to save space."""
    rows = dict(stamps.rows)
    stamp = rows.pop(tag)
    stamps = stamps.with_rows(rows)
    if not rules.only_clear_all_raises_the_floor:
        stamps = stamps._replace(floor=max(stamps.floor, stamp))
    if rules.dropping_raises_forgotten:
        stamps = stamps._replace(forgotten=max(stamps.forgotten, stamp))
    return stamps


class Refusal(NamedTuple):
    """Why a fill was not accepted."""

    reason: str


_LOST: Final = Refusal("the set is lost")
_OTHER_EPOCH: Final = Refusal("of another epoch")


def fill(stamps: StampSet, draft: Draft, moment: Moment, value: int, rules: Rules) -> tuple[StampSet, Copy] | Refusal:
    """Rules R1.3, R1.4 and R3: the set after a fill, and the entry; or why it is refused."""
    if stamps.is_lost:
        return _LOST
    if rules.as_of_is_of_this_epoch and moment.epoch != stamps.epoch:
        return _OTHER_EPOCH
    tags = draft.tags_as_of(moment.clock)
    rows = dict(stamps.rows)
    for tag, as_of in tags:
        if as_of < stamps.floor:
            return Refusal(f"{tag} as of {as_of} is before the floor {stamps.floor}")
        row = rows.get(tag)
        if row is not None and as_of < row:
            return Refusal(f"{tag} as of {as_of} is before its stamp {row}")
        if row is None and as_of < stamps.forgotten and rules.fills_before_forgotten_need_a_row:
            return Refusal(f"{tag} as of {as_of} is before =forgotten {stamps.forgotten}, and there is no row")
    for tag, as_of in tags:
        if tag not in rows and rules.fills_make_missing_rows:
            known = min(as_of, stamps.forgotten)  # nothing of it is known that is later
            made_at = known if rules.rows_are_made_at_forgotten else moment.clock
            rows[tag] = made_at if rules.rows_are_not_made_lower else 0
    copy = Copy(stamps.epoch, moment.clock, tags, value)
    return stamps.with_rows(rows), copy
