"""What only the memory store has: an injected clock, a byte budget, and globs of its own."""

from __future__ import annotations

import fnmatch
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_rcache.errors import StoreFullError
from flask_rcache.model.entry import Freshness
from flask_rcache.model.keys import Names, user_tag
from flask_rcache.stores import Begin, Fill, MemoryStore
from flask_rcache.stores.glob import glob_regex
from tests.stores.kit import SECOND, memory_kit


def test_read__expiry_by_the_clock() -> None:
    """Fresh until the ttl, stale in its window, for errors only after it, then gone."""
    kit = memory_kit()
    assert kit.clock is not None
    key = kit.key()
    kit.load(key, ttl=10.0, stale_while_revalidate=5.0, stale_if_error=20.0)
    seen = []
    for _ in range(4):
        reading = kit.read(key)
        seen.append(None if reading.entry is None else reading.entry.freshness(reading.now))
        kit.clock.tick(10.0 if not seen[1:] else 8.0)
    assert seen == [Freshness.FRESH, Freshness.STALE, Freshness.ERROR_ONLY, Freshness.ERROR_ONLY]
    kit.clock.tick(8.0)
    assert kit.read(key).unfit == "absent"


def test_tick__clock_that_goes_backwards() -> None:
    """TIME may step back: grants and stamps still order as they happened (rule R2)."""
    kit = memory_kit()
    assert kit.clock is not None
    key = kit.key()
    early = kit.grant(key)
    kit.clock.tick(-3600.0)
    kit.store.invalidate((), ["search"])
    assert kit.fill(early) is Fill.OVERTAKEN
    kit.clock.tick(-3600.0)
    late = kit.grant(key)
    assert late.as_of > early.as_of
    assert kit.fill(late) is Fill.STORED
    assert kit.value(key) == b"v"
    kit.store.invalidate((), ["search"])
    assert kit.value(key) is None


def test_invalidate__pruned_stamps_raise_the_floor() -> None:
    """Above 100,000 stamps the oldest goes, and what it had made invalid does not come back."""
    kit = memory_kit()
    grant = kit.grant(kit.key())
    kit.store.invalidate([user_tag("first")])
    between = kit.grant(kit.key("b")).as_of
    kit.store.invalidate([user_tag(str(number)) for number in range(100_000)])
    assert kit.fill(grant, tags=["first"]) is Fill.OVERTAKEN
    # What is newer than the pruned stamp is none the worse for it.
    handed = ((user_tag("other"), between),)
    assert kit.fill(kit.grant(kit.key("c")), handed=handed) is Fill.STORED


def test_put__budget_drops_the_least_recently_used() -> None:
    """Bytes are counted, and what was read last stays."""
    kit = memory_kit(max_bytes=10_000)
    keys = [kit.key(f"k{number}") for number in range(4)]
    for key in keys[:3]:
        kit.load(key, b"x" * 2000)
    kit.read(keys[0])
    kit.load(keys[3], b"x" * 2000)
    assert [kit.value(key) is not None for key in keys] == [True, False, True, True]


def test_put__budget_holds_under_replacement_and_removal() -> None:
    """Replacing, deleting and expiring give their bytes back: the budget stays usable for ever."""
    kit = memory_kit(max_bytes=10_000)
    assert kit.clock is not None
    for number in range(50):
        kit.store.write([(kit.key(), kit.draft(kit.key(), b"x" * 2000))])
        if number % 3 == 0:
            kit.store.delete([kit.key()])
        if number % 5 == 0:
            kit.store.invalidate((), ["search"])
        if number % 7 == 0:
            kit.clock.tick(61.0)
            kit.read(kit.key())
    keys = [kit.key(f"k{number}") for number in range(3)]
    for key in keys:
        kit.load(key, b"x" * 2000)
    assert all(kit.value(key) for key in keys)


def test_put__larger_than_the_budget() -> None:
    """What cannot fit is refused, tells so, and pushes nothing out; the earlier value is not left to be served."""
    kit = memory_kit(max_bytes=10_000)
    kit.load(kit.key("small"))
    kit.load(kit.key(), b"old")
    with pytest.raises(StoreFullError):
        kit.store.write([(kit.key(), kit.draft(kit.key(), b"x" * 20_000))])
    assert kit.value(kit.key()) is None
    assert kit.value(kit.key("small")) == b"v"
    grant = kit.grant(kit.key("big"))
    with pytest.raises(StoreFullError):
        kit.fill(grant, b"x" * 20_000)
    assert kit.ask(kit.key("big")).kind is Begin.GRANTED


def test_begin__expired_leases_do_not_pile_up() -> None:
    """Leases and pass markers of keys that nobody asks for again go away."""
    kit = memory_kit()
    assert kit.clock is not None
    for number in range(3000):
        kit.store.release([kit.grant(kit.key(f"k{number}"))], pass_for=1.0)
        if number == 1500:
            kit.clock.tick(2.0)
    assert isinstance(kit.store, MemoryStore)
    assert len(kit.store._leases) < 2000


def test_store__threads() -> None:
    """Many threads at once: budget and index stay right."""
    names = Names()
    store = MemoryStore(names, max_bytes=200_000)
    kit = memory_kit()
    errors: list[BaseException] = []

    def work(thread: int) -> None:
        try:
            for number in range(300):
                key = names.entry("search", str((thread * 7 + number) % 40))
                if number % 11 == 0:
                    store.invalidate((), ["search"])
                elif number % 7 == 0:
                    store.delete([key])
                else:
                    store.write([(key, kit.draft(key, b"x" * 3000))])
                    store.read(key, tuple)
        except BaseException as error:  # noqa: BLE001  # whatever it is, the test must hear of it
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    listed = list(store.entries(None, None))
    assert sum(item.size for item in listed) <= 200_000
    assert store.invalidate((), (), everything=True) == len(listed)
    assert list(store.entries(None, None)) == []


@given(st.text(alphabet="ab*?[]^-\\c:", max_size=8), st.text(alphabet="abc:*-^]", max_size=6))
def test_glob_regex__never_raises(pattern: str, text: str) -> None:
    """Any text is a pattern; one without specials matches itself only."""
    matched = glob_regex(pattern).fullmatch(text) is not None
    if not set(pattern) & set("*?[]\\"):
        assert matched == (pattern == text)


def test_clock__default_is_microseconds_of_the_epoch() -> None:
    """Without a clock the store has its own; it looks like wall time."""
    store = MemoryStore(Names(), max_bytes=1000)
    assert store.read("cache:search:a", tuple).now > 1_600_000_000 * SECOND


def test_glob_regex__many_stars() -> None:
    """A pattern of many stars is answered at once; backtracking would take longer than the tests."""
    key = "cache:search:" + "a" * 5000
    assert glob_regex("*a" * 200 + "*").fullmatch(key)
    assert not glob_regex("*a" * 200 + "*b").fullmatch(key)


@given(st.text("ab*?", max_size=10), st.text("ab", max_size=10))
def test_glob_regex__as_fnmatch(pattern: str, text: str) -> None:
    """Stars and question marks mean what they do everywhere."""
    assert bool(glob_regex(pattern).fullmatch(text)) is fnmatch.fnmatchcase(text, pattern)
