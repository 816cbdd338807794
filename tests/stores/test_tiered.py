"""The memory tier in front of Redis: what it may serve, when it must not, and what stands in while Redis is away."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import ormsgpack
import pytest

import flask_rcache.stores.tiered as tiered_module
from flask_rcache.errors import StoreUnavailableError
from flask_rcache.model.keys import Names, key_tag, type_tag, user_tag
from flask_rcache.stores.protocol import Begin, Outcome
from flask_rcache.stores.redis.bus import Message
from flask_rcache.stores.tiered import TieredStore
from tests.servers import Server
from tests.stores.kit import Kit, tiered_store
from tests.stores.proxy import Proxy

L1 = 30.0
NOWHERE = "redis://127.0.0.1:1/0"

Make = Callable[..., Kit]


@pytest.fixture
def tiered(server: Server) -> Iterator[Make]:
    """Makes stores with a memory tier on one server, as several processes have them; closed at the end."""
    made: list[TieredStore] = []

    def make(url: str = server.url, *, l1_ttl: float = L1, **options: Any) -> Kit:
        made.append(tiered_store(url, **options))
        return Kit(made[-1], Names(), client=server.client(), l1_ttl=l1_ttl)

    yield make
    for store in made:
        store.close()


def until(condition: Callable[[], bool], *, seconds: float = 10.0) -> bool:
    """Whether the condition comes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


def tier(kit: Kit) -> TieredStore:
    assert isinstance(kit.store, TieredStore)
    return kit.store


def remembers(kit: Kit, key: str) -> bool:
    """Whether the key is answered from memory."""
    lookup = kit.store.recall(key, kit.l1_ttl)
    return lookup is not None and lookup.entry is not None


def warmed(kit: Kit, key: str) -> bool:
    """Read the key until it is answered from memory, once the bus is heard of."""

    def is_held() -> bool:
        kit.read(key)
        return remembers(kit, key)

    return until(is_held)


def test_read__a_hit_in_memory_asks_nobody(server: Server, tiered: Make) -> None:
    """Once the bus is known to be alive, hits cost no round trip, one by one or together."""
    with Proxy(server.port) as proxy:
        kit = tiered(proxy.url)
        keys = [kit.key("a"), kit.key("b")]
        for key in keys:
            kit.load(key)
            assert warmed(kit, key)

        def asked_for_100_hits() -> int:
            before = len(proxy.requests)
            for _ in range(50):
                assert kit.value(keys[0]) == b"v"
                lookups = kit.store.read_many(keys, (), L1)
                assert all(lookup.entry for lookup in lookups)
            return len(proxy.requests) - before

        # On a machine that stands still the bus may be late, and distrusted for a moment.
        assert until(lambda: asked_for_100_hits() <= 4), "the bus's PING and the heartbeat are all that may be sent"
        kit.store.close()


def test_read__the_same_from_memory(tiered: Make) -> None:
    """A lookup from memory has what one from Redis has; the entry's age goes on."""
    kit = tiered()
    kit.load(kit.key(), tags=["eu"])
    assert warmed(kit, kit.key())
    cold = tier(kit).redis.read(kit.key(), ())
    warm = kit.store.recall(kit.key(), L1)
    assert warm is not None
    assert (warm.entry, warm.identity, warm.reason, warm.error) == (cold.entry, cold.identity, cold.reason, None)
    assert warm.size > 0
    assert abs(warm.now - cold.now) < 5_000_000
    assert kit.store.recall(kit.key("absent"), L1) is None


@pytest.mark.parametrize("means", ["type", "tag", "key", "pattern", "write", "everything"])
def test_apply__an_invalidation_elsewhere(tiered: Make, means: str) -> None:
    """Whatever the means, another process's memory gives the old value up; this one's at once."""
    one, other = tiered(), tiered()
    key = one.key()
    one.load(key, b"old", tags=["eu"])
    assert warmed(one, key)
    assert warmed(other, key)
    changes: dict[str, Callable[[], object]] = {
        "type": lambda: one.store.invalidate((), ["search"]),
        "tag": lambda: one.store.invalidate([user_tag("eu")]),
        "key": lambda: one.store.delete([key]),
        "pattern": lambda: one.store.invalidate_pattern(*one.names.pattern("search:a*")),
        "write": lambda: one.write(key, b"new"),
        "everything": lambda: one.store.invalidate((), (), everything=True),
    }
    changes[means]()
    now = b"new" if means == "write" else None
    assert one.value(key) == now, "the process that invalidated serves nothing older"
    assert until(lambda: other.value(key) == now), "the bus brings it long before the 30 s end"
    one.load(key, b"newest", tags=["eu"])
    assert warmed(one, key)
    assert one.value(key) == b"newest", "what comes later is held again"


def test_fill__is_seen_by_who_made_it(tiered: Make) -> None:
    """A refresh of an entry that is held is served from then on by the process that made it."""
    kit = tiered()
    kit.load(kit.key(), b"old")
    assert warmed(kit, kit.key())
    kit.load(kit.key(), b"new")
    assert kit.value(kit.key()) == b"new"


def test_read__an_l1_ttl_of_0_is_exact(tiered: Make) -> None:
    """With an ``l1_ttl`` of 0 nothing is held, so nothing old is served for any time."""
    one, other = tiered(l1_ttl=0), tiered(l1_ttl=0)
    for number in range(50):
        one.write(one.key(), b"%d" % number)
        assert other.value(one.key()) == b"%d" % number
    assert tier(other).catalogue.state()["memory_tier"]["entries"] == 0
    assert other.store.recall(one.key(), 0) is None


def test_recall__a_shorter_l1_ttl_elsewhere(tiered: Make) -> None:
    """What one call site keeps for long is not served to one that wants it younger."""
    kit = tiered()
    kit.load(kit.key())

    def only_for_the_longer() -> bool:
        assert warmed(kit, kit.key())
        time.sleep(0.02)
        assert kit.store.recall(kit.key(), 0.01) is None
        return remembers(kit, kit.key())  # unless the bus was distrusted in between

    assert until(only_for_the_longer)


def test_recall__ends_with_the_l1_ttl(tiered: Make) -> None:
    """Nothing is served for longer than its ``l1_ttl``, counted from when the read was sent."""
    kit = tiered(l1_ttl=0.1)
    kit.load(kit.key())
    assert warmed(kit, kit.key())
    time.sleep(0.1)
    assert not remembers(kit, kit.key())


def test_recall__a_longer_l1_ttl_elsewhere(tiered: Make) -> None:
    """What was kept for a moment is not served later to one that would take it older: stamps are kept for no longer."""
    kit = tiered(l1_ttl=0.1)
    kit.load(kit.key())
    assert warmed(kit, kit.key())
    time.sleep(0.11)
    assert kit.store.recall(kit.key(), L1) is None


def test_bus__that_does_not_run(tiered: Make) -> None:
    """Nobody listens: nothing is served from memory."""
    kit = tiered()
    kit.load(kit.key())
    assert warmed(kit, kit.key())
    kit.load(kit.key("other"))
    tier(kit).redis.bus.stop()
    assert not remembers(kit, kit.key())
    assert kit.value(kit.key("other")) == b"v"
    assert kit.store.catalogue.state()["memory_tier"]["entries"] == 1, "nor is anything more kept there"


def test_bus__a_cut_connection_is_distrusted(server: Server, tiered: Make) -> None:
    """The bus's connection is killed: what was held is dropped, and Redis is asked until it is heard of again."""
    one, other = tiered(), tiered()
    key = one.key()
    one.load(key, b"old")
    assert warmed(other, key)
    server.client().client_kill_filter(_type="pubsub")
    assert until(lambda: not remembers(other, key))
    one.write(key, b"new")
    assert until(lambda: other.value(key) == b"new")
    assert warmed(other, key), "and then it is trusted again"


def test_generation__that_ended(tiered: Make) -> None:
    """What was read over connections that are not trusted any more is not served."""
    kit = tiered()
    kit.load(kit.key())
    assert warmed(kit, kit.key())
    tier(kit).redis.pool.end_generation(ConnectionError("for the test"))
    assert not remembers(kit, kit.key())
    assert warmed(kit, kit.key())


def test_lost_set__memory_is_of_another_epoch(tiered: Make) -> None:
    """A lost set makes what memory holds invalid as soon as this process hears of it."""
    kit = tiered()
    kit.load(kit.key())
    assert warmed(kit, kit.key())
    kit.server().delete(kit.names.stamps)
    assert until(lambda: not remembers(kit, kit.key()))
    assert kit.value(kit.key()) is None


# Between a read and its place in memory


class _Reading:
    """A read that was sent and answered, and is not in memory yet."""

    def __init__(self, kit: Kit, key: str) -> None:
        self.store, self.key = tier(kit), key
        assert warmed(kit, key)
        self.sent = time.monotonic_ns()
        self.lookup = self.store.redis.read(key, ())
        assert self.lookup.entry is not None
        self.store._drop([key])

    def keep(self) -> bool:
        """Put it into memory; whether it is served from there."""
        self.store._keep(self.key, self.lookup, self.sent, L1)
        return self.store.recall(self.key, L1) is not None


def test_keep__what_nothing_has_passed(tiered: Make) -> None:
    """The others' control: a read is kept, and so it is when others than it are invalidated."""
    kit = tiered()
    kit.load(kit.key(), tags=["eu"])

    def is_kept() -> bool:
        reading = _Reading(kit, kit.key())
        kit.store.invalidate([user_tag("us")], ["product"])
        kit.store.delete([kit.key("other")])
        kit.write(kit.key("another"))
        return reading.keep()

    assert until(is_kept)  # unless the bus was distrusted in between


@pytest.mark.parametrize("means", ["type", "tag", "key", "pattern", "write", "everything", "distrust", "generation"])
def test_keep__does_not_overtake_an_invalidation(tiered: Make, means: str) -> None:
    """An invalidation between Redis's reply and the place in memory: the entry is not kept."""
    kit = tiered()
    key = kit.key()
    kit.load(key, b"old", tags=["eu"])
    changes: dict[str, Callable[[], object]] = {
        "type": lambda: kit.store.invalidate((), ["search"]),
        "tag": lambda: kit.store.invalidate([user_tag("eu")]),
        "key": lambda: kit.store.delete([key]),
        "pattern": lambda: kit.store.invalidate_pattern(*kit.names.pattern("search:a*")),
        "write": lambda: kit.write(key, b"new"),
        "everything": lambda: kit.store.invalidate((), (), everything=True),
        "distrust": tier(kit).distrust,
        "generation": lambda: tier(kit).redis.pool.end_generation(ConnectionError("for the test")),
    }
    reading = _Reading(kit, key)
    changes[means]()
    assert not reading.keep()


def test_keep__counts_from_when_the_read_was_sent(tiered: Make) -> None:
    """An answer that took longer than the ``l1_ttl`` is not kept: what it says may be as old as its question."""
    kit = tiered()
    kit.load(kit.key())

    def is_kept(seconds: float) -> bool:
        reading = _Reading(kit, kit.key())
        reading.sent -= 200_000_000
        reading.store._keep(reading.key, reading.lookup, reading.sent, seconds)
        return reading.store.recall(reading.key, L1) is not None

    assert until(lambda: is_kept(30.0))  # once the bus was alive when it was sent
    assert not is_kept(0.15)


# Messages


def _message(kit: Kit, kind: str, ahead: int, *names: str) -> Message:
    """A message of now, whose stamp is so many µs ahead."""
    epoch, clock, *_ = kit.moment()
    return Message(kind, epoch, clock + ahead, clock, names)


@pytest.mark.parametrize("clock", ["sane", "ahead as well"])
@pytest.mark.parametrize("kind", ["t", "k", "p", "*"])
def test_bus__a_stamp_in_the_far_future(tiered: Make, kind: str, clock: str) -> None:
    """One message that makes no sense does not keep the memory tier empty; those after it are applied."""
    kit = tiered()
    key, other = kit.key(), kit.key("other")
    for each in (key, other):
        kit.load(each)
        assert warmed(kit, each)
    names = {"t": [type_tag("search")], "k": [key], "p": ["*"], "*": []}[kind]
    epoch, now, *_ = kit.moment()
    future = now + 10**15
    parts = [kind, str(epoch), str(future), str(now if clock == "sane" else future), names]
    kit.server().publish(kit.names.bus, ormsgpack.packb(parts))
    kit.server().publish(kit.names.bus, ormsgpack.packb(["k", str(epoch), str(now + 1), str(now), [other]]))
    assert until(lambda: not remembers(kit, other))
    assert warmed(kit, key)
    assert kit.moment().clock < future


def test_apply__a_stamp_a_little_ahead(tiered: Make) -> None:
    """A stamp that was set a few seconds ahead holds."""
    kit = tiered()
    kit.load(kit.key(), tags=["eu"])
    assert warmed(kit, kit.key())
    tier(kit).apply(_message(kit, "t", 5_000_000, user_tag("eu")))
    assert not remembers(kit, kit.key())


def test_apply__is_bounded(tiered: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that set many keys must not fill this one; what is forgotten early takes along what it may concern."""
    monkeypatch.setattr(tiered_module, "_STAMPS_LIMIT", 1000)
    kit = tiered()
    key = kit.key()
    kit.load(key, tags=["eu"])
    reading = _Reading(kit, key)
    store = tier(kit)
    store.apply(_message(kit, "t", 1, user_tag("eu")))
    for number in range(3000):
        store.apply(_message(kit, "k", 1, kit.key(str(number))))
    assert len(store._rows) <= 1001
    assert not reading.keep(), "its stamp may be among those forgotten"
    assert warmed(kit, key)


def test_apply__stamps_are_kept_as_long_as_entries(tiered: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long an ``l1_ttl``, what was invalidated in it stays invalid; later the stamp goes."""
    kit = tiered(l1_ttl=300.0)
    key = kit.key()
    kit.load(key, tags=["eu"])
    assert warmed(kit, key)
    store, started = tier(kit), time.monotonic_ns()
    store.apply(_message(kit, "t", 1, user_tag("eu")))
    now = [started]
    monkeypatch.setattr(tiered_module, "time", SimpleNamespace(monotonic_ns=lambda: now[0]))
    for seconds, kept in ((200, True), (310, False)):
        now[0] = started + seconds * 10**9
        store.apply(_message(kit, "t", 1, user_tag("other")))
        assert (user_tag("eu") in store._rows) is kept


def test_apply__a_stamp_that_is_forgotten(tiered: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read so slow that the stamps since it was sent are forgotten is not kept."""
    kit = tiered()
    kit.load(kit.key(), tags=["eu"])
    reading = _Reading(kit, kit.key())
    store, started = tier(kit), time.monotonic_ns()
    store.apply(_message(kit, "t", 1, user_tag("eu")))
    monkeypatch.setattr(tiered_module, "time", SimpleNamespace(monotonic_ns=lambda: started + 60 * 10**9))
    store.apply(_message(kit, "t", 1, user_tag("other")))
    monkeypatch.undo()
    assert user_tag("eu") not in store._rows
    assert not reading.keep()


def test_apply__variants_go_with_their_key(tiered: Make) -> None:
    """A key's deletion reaches the entries that have the key as a tag."""
    kit = tiered()
    variant = kit.names.variant(kit.key(), "a" * 32)
    kit.load(variant, inherited=((key_tag(kit.key()), kit.moment().clock),))
    assert warmed(kit, variant)
    kit.store.delete([kit.key()])
    assert kit.value(variant) is None


# While Redis is away


def test_outage__results_are_kept_for_a_moment(tiered: Make) -> None:
    """No Redis: one load serves this process, and the lookups say why; its own invalidations hold at once."""
    kit = tiered(NOWHERE, outage_ttl=30.0)
    key = kit.key()
    with pytest.raises(StoreUnavailableError):
        kit.store.read(key, ())
    kit.load(key, b"old", tags=["eu"])
    lookup = kit.read(key)
    assert lookup.entry is not None
    assert isinstance(lookup.error, StoreUnavailableError)
    assert kit.store.incident is not None
    for invalidate in (
        lambda: kit.store.invalidate([user_tag("eu")]),
        lambda: kit.store.invalidate((), ["search"]),
        lambda: kit.store.invalidate((), (), everything=True),
        lambda: kit.store.invalidate_pattern(*kit.names.pattern("search:*")),
        lambda: kit.store.delete([key]),
    ):
        with pytest.raises(StoreUnavailableError):
            invalidate()
        assert kit.value(key) is None
        kit.load(key, b"new", tags=["eu"])
        assert kit.value(key) == b"new"
    with pytest.raises(StoreUnavailableError):
        kit.store.read(key, (), 0.0)


def test_outage__one_load_a_key(tiered: Make) -> None:
    """Leases and pass markers hold within this process."""
    kit = tiered(NOWHERE, outage_ttl=30.0)
    kit.read(kit.key())
    lease = kit.start(kit.key()).lease
    assert kit.ask(kit.key()).kind is Begin.BUSY
    kit.store.release([lease], pass_for=5.0)
    assert kit.ask(kit.key()).kind is Begin.PASS


def test_outage__a_load_begun_before_an_invalidation(tiered: Make) -> None:
    """Moments are this process's own then, and obey the same rules."""
    kit = tiered(NOWHERE, outage_ttl=30.0)
    kit.read(kit.key())
    started = kit.start(kit.key())
    with pytest.raises(StoreUnavailableError):
        kit.store.invalidate((), ["search"])
    assert kit.fill(started) is Outcome.OVERTAKEN


@pytest.mark.parametrize(("outage_ttl", "l1_ttl"), [(0.1, 30.0), (30.0, 0.1)])
def test_outage__ends_with_the_shorter_of_both(tiered: Make, outage_ttl: float, l1_ttl: float) -> None:
    """Kept for ``outage_ttl`` seconds after the fill, and never beyond the ``l1_ttl`` from when its load began."""
    kit = tiered(NOWHERE, outage_ttl=outage_ttl, l1_ttl=l1_ttl)
    kit.read(kit.key())
    kit.load(kit.key())
    time.sleep(0.11)
    entry = kit.read(kit.key()).entry
    assert entry is None or entry.age(kit.read(kit.key()).now) >= entry.ttl
    if outage_ttl > l1_ttl:
        assert entry is None


def test_outage__may_be_switched_off(tiered: Make) -> None:
    """With an ``outage_ttl`` of 0 nothing stands in: the caller learns that Redis is away."""
    kit = tiered(NOWHERE, outage_ttl=0.0)
    with pytest.raises(StoreUnavailableError):
        kit.read(kit.key())
    assert kit.store.hear() is None
    assert kit.store.moment is None


def _during_an_outage(proxy: Proxy, kit: Kit) -> None:
    """Cut the way to the server, and let the store notice."""
    proxy.cut()
    assert until(lambda: kit.read(kit.key("any")).error is not None)


def test_outage__what_it_left_is_not_used_after_it(server: Server, tiered: Make) -> None:
    """Once Redis is back, neither entries nor loads of the outage are: not there, and not in the next outage."""
    with Proxy(server.port) as proxy:
        kit = tiered(proxy.url, outage_ttl=30.0)
        key = kit.key()
        kit.load(key, b"before")
        _during_an_outage(proxy, kit)
        kit.load(key, b"meanwhile")
        assert kit.value(key) == b"meanwhile"
        begun = kit.start(kit.key("b"))
        proxy.mend()
        assert until(lambda: kit.value(key) == b"before")
        assert until(lambda: tier(kit)._outage.state()["memory_tier"]["entries"] == 0), "it takes no room either"
        assert kit.fill(begun) is Outcome.REFUSED
        assert kit.value(kit.key("b")) is None
        _during_an_outage(proxy, kit)
        assert kit.value(key) is None
        with pytest.raises(StoreUnavailableError):
            kit.fill(begun)
        assert kit.value(kit.key("b")) is None
        kit.store.close()


def test_outage__a_load_begun_before_it(server: Server, tiered: Make) -> None:
    """A moment heard of Redis means nothing to what stands in: the load is not kept, and no error of anybody's."""
    with Proxy(server.port) as proxy:
        kit = tiered(proxy.url, outage_ttl=30.0)
        before = kit.moment()
        _during_an_outage(proxy, kit)
        assert kit.ask(kit.key(), moment=before).kind is Begin.UNSTORABLE
        kit.store.close()


def test_outage__an_invalidation_that_nobody_acknowledged(tiered: Make) -> None:
    """The bus may be alive while Redis is not asked: what is invalidated here is not served from memory either."""
    kit = tiered()
    kit.load(kit.key(), tags=["eu"])
    assert warmed(kit, kit.key())
    tier(kit).redis._server.breaker.trip(ConnectionError("for the test"))
    with pytest.raises(StoreUnavailableError):
        kit.store.invalidate([user_tag("eu")])
    assert not remembers(kit, kit.key())
    assert until(lambda: tier(kit).redis.outage is None)
    assert kit.value(kit.key()) is None


# Forks


def test_fork__a_child_hears_for_itself(tiered: Make) -> None:
    """A child serves nothing from memory before its own bus is alive, and then what is valid."""
    kit = tiered()
    key = kit.key()
    kit.load(key, b"old")
    assert warmed(kit, key)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            inherited = remembers(kit, key) or len(tier(kit)._cells) > 0
            code = 0 if not inherited and warmed(kit, key) and kit.value(key) == b"old" else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert warmed(kit, key)


def test_release__shared_and_local_leases_together(server: Server, tiered: Make) -> None:
    """Leases of Redis and of an outage go back to where they came from."""
    with Proxy(server.port) as proxy:
        kit = tiered(proxy.url, outage_ttl=30.0)
        shared = kit.start(kit.key("shared"))
        _during_an_outage(proxy, kit)
        local = kit.start(kit.key("local"))
        proxy.mend()
        assert until(lambda: kit.read(kit.key("any")).error is None)
        kit.store.release([shared.lease, local.lease])
        assert kit.ask(kit.key("shared")).kind is Begin.GRANTED
        kit.store.close()
