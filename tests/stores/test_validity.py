"""What was checked in memory is served again without another look, and no longer than nothing changes (R1, R5)."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator

import pytest

from flask_rcache.model.entry import Entry
from flask_rcache.model.keys import Names, user_tag
from flask_rcache.stores.lru import Checked
from flask_rcache.stores.memory import MemoryStore
from flask_rcache.stores.tiered import TieredStore
from tests.servers import Server
from tests.stores.kit import Clock, Kit, tiered_store
from tests.stores.test_tiered import until

L1 = 30.0
_BYTES = 200_000


@pytest.fixture(params=["memory", "tiered"])
def memory(request: pytest.FixtureRequest) -> Iterator[Kit]:
    """A tier of memory with real time: alone, and in front of a real Redis; with room for a few entries."""
    if request.param == "memory":
        yield Kit(MemoryStore(Names(), max_bytes=_BYTES), Names(), l1_ttl=L1)
        return
    server: Server = request.getfixturevalue("redis_server")
    store = tiered_store(server.url, max_bytes=_BYTES)
    yield Kit(store, Names(), client=server.client(), l1_ttl=L1)
    store.close()


def checked(kit: Kit, key: str) -> tuple[Checked, Entry]:
    """What lies under a key, checked; on a machine that stands still the bus may be late."""
    found: list[tuple[Checked, Entry]] = []

    def is_found() -> bool:
        kit.read(key)
        made = kit.store.checked(key, kit.l1_ttl)
        lookup = kit.store.recall(key, kit.l1_ttl)
        if made is None or lookup is None or lookup.entry is None or not holds(made):
            return False
        found.append((made, lookup.entry))
        return True

    assert until(is_found)
    return found[0]


def holds(made: Checked) -> bool:
    return made.entry_at(time.monotonic_ns()) is not None


_CHANGES: dict[str, Callable[[Kit, str], object]] = {
    "tag": lambda kit, key: kit.store.invalidate([user_tag("eu")]),
    "type": lambda kit, key: kit.store.invalidate((), ["search"]),
    "everything": lambda kit, key: kit.store.invalidate((), everything=True),
    "pattern": lambda kit, key: kit.store.invalidate_pattern("*", None),
    "key": lambda kit, key: kit.store.delete([key]),
    "key without a stamp": lambda kit, key: kit.store.delete([key], is_stamped=False),
    "write": lambda kit, key: kit.write(key, b"new"),
    "seized": lambda kit, key: kit.store.seize(key, "lother"),
    "commit": lambda kit, key: kit.store.stamp_ahead([user_tag("eu")], "a"),
    "commit that is over": lambda kit, key: kit.store.settle([user_tag("eu")], "a"),
    "closed": lambda kit, key: kit.store.close(),
}


@pytest.mark.parametrize("change", _CHANGES.values(), ids=_CHANGES.keys())
def test_checked__ends_with_what_changes(memory: Kit, change: Callable[[Kit, str], object]) -> None:
    """Until it has changed it is the very entry; once the call that changes it has returned, it is nothing."""
    key = memory.key()
    memory.load(key, b"old", tags=["eu"])
    made, entry = checked(memory, key)
    assert entry.content == b"old"
    assert made.entry_at(time.monotonic_ns()) in (entry, None)  # the bus may be late at any time
    cell = made._cell()  # as another thread has it that reads the key at this moment
    change(memory, key)
    assert not holds(made)
    del cell


def test_checked__ends_when_the_entry_makes_room(memory: Kit) -> None:
    """It keeps no entry in memory, whatever the budget says."""
    key = memory.key()
    memory.load(key, b"v" * (_BYTES // 2))
    made, entry = checked(memory, key)
    del entry
    for number in range(4):
        memory.load(memory.key(f"n{number}"), b"v" * (_BYTES // 3))
        memory.read(memory.key(f"n{number}"))
    assert until(lambda: not holds(made))
    gc.collect()
    assert made._cell() is None


def test_checked__ends_with_its_time() -> None:
    """No longer than the entry is kept, or than the call's `l1_ttl`; never where the clock is a test's."""
    store = MemoryStore(Names(), max_bytes=_BYTES)
    kit = Kit(store, Names(), l1_ttl=L1)
    key = kit.key()
    kit.load(key, ttl=100.0)
    made, _ = checked(kit, key)
    now = time.monotonic_ns()
    assert made.entry_at(now + 90 * 10**9) is not None
    assert made.entry_at(now + 100 * 10**9) is None
    still = MemoryStore(Names(), max_bytes=_BYTES, clock=Clock())
    kit = Kit(still, Names(), l1_ttl=L1)
    kit.load(key)
    assert still.checked(key, L1) is None
    assert still.recall(key, L1) is not None


def test_checked__ends_with_the_l1_ttl(server: Server) -> None:
    """Counted from when the read was sent, for the call that wants it younger too."""
    store = tiered_store(server.url)
    kit = Kit(store, Names(), l1_ttl=L1)
    try:
        key = kit.key()
        kit.load(key)
        read_before = time.monotonic_ns()
        checked(kit, key)
        short = store.checked(key, 0.5)
        assert short is not None
        assert short.until <= time.monotonic_ns() + 10**9 // 2
        longest = store.checked(key, 1000.0)
        assert longest is not None
        assert read_before + L1 * 10**9 <= longest.until <= time.monotonic_ns() + L1 * 10**9
    finally:
        store.close()


def test_checked__ends_when_nobody_listens(server: Server) -> None:
    """An invalidation of another process ends it, and so does a bus that is not known to be alive."""
    store, other = tiered_store(server.url), tiered_store(server.url)
    kit, elsewhere = Kit(store, Names(), l1_ttl=L1), Kit(other, Names(), l1_ttl=L1)
    try:
        key = kit.key()
        kit.load(key, tags=["eu"])
        made, _ = checked(kit, key)
        elsewhere.store.invalidate([user_tag("eu")])
        assert until(lambda: not holds(made))
        kit.load(key, tags=["eu"])
        made, _ = checked(kit, key)
        assert isinstance(store, TieredStore)
        store.redis.bus.stop()
        assert not holds(made)
        assert made.until > time.monotonic_ns()
    finally:
        store.close()
        other.close()
