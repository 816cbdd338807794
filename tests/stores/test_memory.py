"""What only the memory store has: an injected clock, a byte budget, rows that go by time, and forks of its own."""

from __future__ import annotations

import os
import threading

import pytest

from flask_rcache.errors import StoreFullError
from flask_rcache.model.entry import Freshness
from flask_rcache.model.keys import Names, user_tag
from flask_rcache.stores.memory import MemoryStore
from flask_rcache.stores.protocol import Begin, Outcome
from tests.stores.kit import SECOND, Clock, Kit, memory_kit


def _tick(kit: Kit, seconds: float) -> None:
    assert kit.clock is not None
    kit.clock.tick(seconds)


def test_read__expiry_by_the_clock() -> None:
    """Fresh until the ttl, stale in its window, for errors only after it, then gone."""
    kit = memory_kit()
    key = kit.key()
    kit.load(key, ttl=10.0, stale_while_revalidate=5.0, stale_if_error=20.0)
    seen = []
    for pause in (10.1, 8.0, 8.0, 8.0):
        lookup = kit.read(key)
        seen.append(None if lookup.entry is None else lookup.entry.freshness(lookup.now))
        _tick(kit, pause)
    assert seen == [Freshness.FRESH, Freshness.STALE, Freshness.ERROR_ONLY, Freshness.ERROR_ONLY]
    assert kit.read(key).reason == "absent"


def test_clock__that_goes_backwards() -> None:
    """A clock may step back: loads and stamps still order as they happened (rule R2), and ages do not grow negative."""
    kit = memory_kit()
    key = kit.key()
    early = kit.start(key)
    _tick(kit, -3600.0)
    kit.store.invalidate((), ["search"])
    assert kit.fill(early) is Outcome.OVERTAKEN
    _tick(kit, -3600.0)
    late = kit.start(key)
    assert late.moment.clock > early.moment.clock
    assert kit.fill(late) is Outcome.STORED
    lookup = kit.read(key)
    assert lookup.entry is not None
    assert lookup.now >= lookup.entry.created > late.moment.clock
    kit.store.invalidate((), ["search"])
    assert kit.value(key) is None


def test_clock__default_is_microseconds_of_the_epoch() -> None:
    """Without a clock the store has its own; it looks like wall time."""
    store = MemoryStore(Names(), max_bytes=1000)
    assert store.read("cache:search:a", ()).now > 1_600_000_000 * SECOND


def test_moment__asking_does_not_move_the_clock() -> None:
    """A moment is a reading that was given out already; many requests that begin between two changes share it."""
    kit = memory_kit()
    _tick(kit, 10.0)
    first = kit.moment()
    _tick(kit, 10.0)
    assert kit.moment() == first
    kit.store.invalidate([user_tag("eu")])
    assert kit.moment() > first


@pytest.mark.parametrize(("passed", "outcome"), [(359.0, Outcome.STORED), (361.0, Outcome.OVERTAKEN)])
def test_rows__are_kept_300_seconds_after_their_last_entry(passed: float, outcome: Outcome) -> None:
    """Until then a row proves that an old reading is good; afterwards only what was read since its stamp is."""
    kit = memory_kit()
    kit.store.invalidate([user_tag("eu")])
    kit.load(kit.key(), tags=["eu"], ttl=60.0)
    early = kit.moment()
    kit.store.invalidate([user_tag("other")])  # goes first, and is later than `early`
    _tick(kit, passed)
    for number in range(10):  # each drops what is due
        kit.store.invalidate([user_tag(f"more{number}")])
    inherited = ((user_tag("eu"), early.clock),)
    assert kit.fill(kit.start(kit.key("b")), inherited=inherited) is outcome


def test_rows__an_expired_entry_keeps_none_of_them() -> None:
    """Rows go some at a time, whatever is invalidated or filled: in the end there are those of the last 300 s."""
    kit = memory_kit()
    assert isinstance(kit.store, MemoryStore)
    for number in range(2000):
        kit.load(kit.key(f"k{number}"), tags=[f"t{number}"])
    assert len(kit.store._stamps.rows) == 2001
    _tick(kit, 361.0)
    for number in range(200):
        kit.store.invalidate([user_tag(f"late{number}")])
    assert len(kit.store._stamps.rows) == 200


def test_invalidate__everything_after_many_rows() -> None:
    """The floor stands for all rows: they are not needed any more."""
    kit = memory_kit()
    assert isinstance(kit.store, MemoryStore)
    before = kit.start(kit.key())
    kit.store.invalidate([user_tag(str(number)) for number in range(1000)])
    kit.store.invalidate((), (), everything=True)
    assert not kit.store._stamps.rows
    assert kit.fill(before) is Outcome.OVERTAKEN
    kit.load(kit.key())
    assert kit.value(kit.key()) == b"v"


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
    for number in range(50):
        kit.write(kit.key(), b"x" * 2000)
        if number % 3 == 0:
            kit.store.delete([kit.key()])
        if number % 5 == 0:
            kit.store.invalidate((), ["search"])
        if number % 7 == 0:
            _tick(kit, 61.0)
            kit.read(kit.key())
    keys = [kit.key(f"k{number}") for number in range(3)]
    for key in keys:
        kit.load(key, b"x" * 2000)
    assert all(kit.value(key) for key in keys)


def test_put__larger_than_the_budget() -> None:
    """What cannot fit is refused with an error and pushes nothing out; the earlier value is not left to be served."""
    kit = memory_kit(max_bytes=10_000)
    kit.load(kit.key("small"))
    kit.load(kit.key(), b"old")
    with pytest.raises(StoreFullError, match="RCACHE_L1_BYTES"):
        kit.write(kit.key(), b"x" * 20_000)
    assert kit.value(kit.key()) is None
    assert kit.value(kit.key("small")) == b"v"
    started = kit.start(kit.key("big"))
    with pytest.raises(StoreFullError):
        kit.fill(started, b"x" * 20_000)
    assert kit.ask(kit.key("big")).kind is Begin.GRANTED


def test_begin__expired_leases_do_not_pile_up() -> None:
    """Leases and pass markers of keys that nobody asks for again go, a few at each request."""
    kit = memory_kit()
    assert isinstance(kit.store, MemoryStore)
    for number in range(3000):
        kit.mark(kit.key(f"k{number}"), 1.0)
    _tick(kit, 2.0)
    for number in range(400):
        kit.start(kit.key(f"later{number}"))
    assert len(kit.store._leases) == 400


def test_begin__a_marker_that_is_asked_for_lives_on() -> None:
    """A load under a marker may take as long as a lease, and its fill still finds the marker."""
    kit = memory_kit()
    kit.mark(kit.key(), 1.0)
    started = kit.passing(kit.key())
    _tick(kit, 3.0)
    for number in range(20):
        kit.ask(kit.key(f"other{number}"))
    assert kit.fill(started) is Outcome.STORED


def test_forget__of_another_epoch() -> None:
    """After it nothing that was heard or begun before is stored, and nothing is left."""
    kit = memory_kit()
    assert isinstance(kit.store, MemoryStore)
    kit.load(kit.key())
    before, started = kit.moment(), kit.start(kit.key("b"))
    kit.store.forget()
    assert kit.value(kit.key()) is None
    assert kit.ask(kit.key(), moment=before).kind is Begin.UNSTORABLE
    assert kit.fill(started) is Outcome.REFUSED
    assert kit.write(kit.key(), moment=before) is Outcome.REFUSED
    kit.load(kit.key(), b"new")
    assert kit.value(kit.key()) == b"new"


@pytest.mark.parametrize("changing", [False, True])
def test_fork__leases_are_the_parents(changing: bool) -> None:
    """A child keeps the entries, unless a thread was changing them; nobody waits there for loads of the parent."""
    kit = memory_kit()
    assert isinstance(kit.store, MemoryStore)
    kit.load(kit.key())
    kit.start(kit.key("b"))
    if changing:
        kit.store._lock.acquire()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            kept = kit.value(kit.key()) == (None if changing else b"v")
            free = kit.ask(kit.key("b")).kind is Begin.GRANTED
            kit.load(kit.key("c"))
            code = 0 if kept and free and kit.value(kit.key("c")) == b"v" else 2
        finally:
            os._exit(code)
    if changing:
        kit.store._lock.release()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert kit.ask(kit.key("b")).kind is Begin.BUSY


def test_page__every_entry_once() -> None:
    """Pages of a listing hold every live entry once, by type and pattern too; a made-up cursor is refused."""
    kit = memory_kit()
    keys = {kit.key(f"k{number}") for number in range(500)}
    for key in keys:
        kit.load(key)
    kit.load(kit.key("p", "product"))
    assert isinstance(kit.store, MemoryStore)

    def listed(type_name: str | None, pattern: str | None) -> list[str]:
        found: list[str] = []
        page = kit.store.catalogue.page(type_name, pattern, None, 7)
        while True:
            assert len(page.entries) <= 7
            found += [item.key for item in page.entries]
            if page.cursor is None:
                return found
            page = kit.store.catalogue.page(type_name, pattern, page.cursor, 7)

    assert sorted(listed(None, None)) == sorted([*keys, kit.key("p", "product")])
    assert listed("product", None) == [kit.key("p", "product")]
    assert sorted(listed("search", kit.key("k1*"))) == sorted(key for key in keys if key.startswith(kit.key("k1")))
    with pytest.raises(ValueError, match="listing"):
        kit.store.catalogue.page(None, None, "nonsense", 7)


def test_store__threads() -> None:
    """Many threads at once: budget and index stay right."""
    names = Names()
    store = MemoryStore(names, max_bytes=200_000, clock=Clock())
    kit = Kit(store, names)
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
                    kit.write(key, b"x" * 3000)
                    store.read(key, ())
        except BaseException as error:  # noqa: BLE001  # whatever it is, the test must hear of it
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    listed = list(store.catalogue.entries(None, None))
    assert sum(item.size for item in listed) <= 200_000
    assert store.invalidate((), (), everything=True) == len(listed)
    assert list(store.catalogue.entries(None, None)) == []
