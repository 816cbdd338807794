"""The operators' half of the cluster store: what the shards list and count, put together.

Owns the order in which shards are walked, and what is shown while some of them are away. Of one shard the store's own
catalogue answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

from ..errors import StoreError
from ..model.keys import Names
from .protocol import Activity, Counts, CountsSource, Listed, Page, Size
from .redis.counting import Counters
from .redis.nodes import Nodes
from .redis.steps import Steps
from .redis.store import RedisStore

__all__ = ["ClusterCatalogue"]

T = TypeVar("T")


class Together(Protocol):
    """Runs the steps of some shards, by their numbers; what came of each."""

    def __call__(self, steps: Mapping[int, Steps[T]], /) -> dict[int, T | Exception]:
        """Run them."""
        ...


class ClusterCatalogue:
    """What operators ask of the shards of a cluster. It changes nothing there.

    Args:
        location: of the cluster, without a password.
        names: the key names.
        nodes: of the cluster.
        shards: the store of each shard.
        counters: of all processes; they lie on the first shard.
        together: runs steps on several shards at once.

    Attributes:
        location: see :attr:`Catalogue.location`.
    """

    def __init__(
        self,
        location: str,
        names: Names,
        nodes: Nodes,
        shards: Sequence[RedisStore],
        *,
        counters: Counters,
        together: Together,
    ) -> None:
        self.location: Final = location
        self._names: Final = names
        self._nodes: Final = nodes
        self._shards: Final = shards
        self._counters: Final = counters
        self._together: Final = together

    @property
    def missing(self) -> list[str]:
        """See :attr:`Catalogue.missing`."""
        away: dict[str, list[str]] = {}
        for link, shard in zip(self._nodes.links, self._shards, strict=True):
            if shard.outage is not None:
                away.setdefault(link.server or "a node that is not known", []).append(str(link.number))
        return [f"{node} (shards {', '.join(numbers)})" for node, numbers in away.items()]

    def entries(self, type_name: str | None, pattern: str | None) -> Iterator[Listed]:
        """See :meth:`Catalogue.entries`: of the shards that can be asked, see :attr:`missing`.

        Raises:
            StoreError: none of them can be.
        """
        failures = []
        for shard in self._shards:
            try:
                yield from shard.catalogue.entries(type_name, pattern)
            except StoreError as error:
                failures.append(error)
        if len(failures) == len(self._shards):
            raise failures[0]

    def page(self, type_name: str | None, pattern: str | None, cursor: str | None, limit: int) -> Page:
        """See :meth:`Catalogue.page`: one shard after the other; those that are away are left out.

        Raises:
            StoreError: all that were to be asked are away.
        """
        number, following = 0, None
        if cursor is not None:
            head, dot, rest = cursor.partition(".")
            if not (dot and head.isdecimal() and len(head) < 6 and int(head) < len(self._shards)):
                raise ValueError("it is not one that a listing gave")
            number, following = int(head), rest or None
        found: list[Listed] = []
        failures, asked = [], len(self._shards) - number
        while True:
            try:
                page = self._shards[number].catalogue.page(type_name, pattern, following, limit - len(found))
            except StoreError as error:
                failures.append(error)
            else:
                found += page.entries
                if page.cursor is not None:
                    return Page(found, f"{number}.{page.cursor}")
            number, following = number + 1, None
            if number == len(self._shards):
                if len(failures) == asked:
                    raise failures[0]
                return Page(found, None)
            if len(found) >= limit:
                return Page(found, f"{number}.")

    def inspect(self, key: str) -> Listed | None:
        """See :meth:`Catalogue.inspect`."""
        return self._shards[self._names.shard_of(key, len(self._shards))].catalogue.inspect(key)

    def sizes(self, types: Sequence[str]) -> dict[str, Size]:
        """See :meth:`Catalogue.sizes`: of the shards that can be asked, all at once.

        Raises:
            StoreError: none of them can be.
        """
        found: dict[str, Size] = {}
        for sizes in self._of_those_there(lambda shard: shard.catalogue.sizes_steps(types)).values():
            for name, size in sizes.items():
                before = found.get(name, Size(0, 0))
                found[name] = Size(before.entries + size.entries, before.bytes + size.bytes)
        return found

    def activity(self) -> Activity | None:
        """See :meth:`Catalogue.activity`: costs and log lie on the first shard.

        Raises:
            StoreError: none of the shards can be asked.
        """
        found = self._of_those_there(lambda shard: shard.catalogue.activity_steps())
        first = found.get(0, Activity([], [], [], []))
        return first._replace(loads=[key for activity in found.values() for key in activity.loads])

    def _of_those_there(self, steps: Callable[[RedisStore], Steps[T]]) -> dict[int, T]:
        """What the shards answer that can be asked, by their numbers.

        Raises:
            StoreError: none of them can be.
        """
        found = self._together({number: steps(shard) for number, shard in enumerate(self._shards)})
        there = {number: answer for number, answer in found.items() if not isinstance(answer, Exception)}
        failure = next((answer for answer in found.values() if isinstance(answer, Exception)), None)
        if not there and failure is not None:
            raise failure
        return there

    def counts(self, types: Sequence[str]) -> Counts | None:
        """See :meth:`Catalogue.counts`: they lie on the first shard; the types are those of all."""
        known = set(types)
        for answer in self._together({n: shard.server.types_steps() for n, shard in enumerate(self._shards)}).values():
            known |= set() if isinstance(answer, Exception) else answer
        return self._counters.counts(sorted(known))

    def count_from(self, source: CountsSource) -> None:
        """See :meth:`Catalogue.count_from`."""
        self._counters.count_from(source)
        self._shards[0].catalogue.count_from(source)

    def state(self) -> dict[str, Any]:
        """See :meth:`Catalogue.state`; ``topology`` has all nodes and shards, as this process sees them.

        A node has what that of one server has: ``address``, ``role`` (``"master"``), ``is_available``, ``since`` (when
        it went away, seconds since 1970, else ``None``), ``connections`` of this process, their ``generation``, and
        ``server``, what it says of itself (``None`` when it does not);
        and its ``shards`` (numbers) and ``replicas`` (addresses). ``missing`` names those that are away, with shards.

        A shard has ``number``, ``slot``, ``node`` (address, empty while it is not known), ``generation``,
        ``is_available``, ``since``, ``cause`` (why it is away, or ``None``), ``bus`` (``"alive"``, ``"down"``,
        ``"off"``), ``pending`` (invalidations in its journal) and ``last_failover``: ``None``, or ``{"at": seconds
        since 1970, "before": address}``. ``store.server`` is ``None``: each node has its own.
        """
        states = [shard.server for shard in self._shards]
        links = self._nodes.links
        failovers = [(link.failed_over_at, link.before) for link in links if link.failed_over_at is not None]
        buses = [shard.bus.state for shard in self._shards]
        tiers = [tier() for shard in self._shards if (tier := shard.catalogue.memory_tier) is not None]
        return {
            "store": {
                "kind": "tiered" if tiers else "redis",
                "location": self.location,
                "server": None,
                "connections": sum(node.pool.connections for node in self._nodes.nodes),
                "warnings": sorted({warning for server in states for warning in server.facts.warnings}),
            },
            "topology": {
                "kind": "cluster",
                "server": "",
                "generation": sum(link.generation for link in links),
                "last_failover": dict(zip(("at", "before"), max(failovers), strict=True)) if failovers else None,
                "nodes": self._nodes.state(),
                "shards": self._described(),
                "missing": self.missing,
            },
            "memory_tier": {name: sum(tier[name] for tier in tiers) for name in tiers[0]} if tiers else None,
            "bus": {"state": next((state for state in ("down", "off") if state in buses), "alive")},
            "breaker": {
                "is_open": any(server.breaker.is_open for server in states),
                "incidents": sum(server.breaker.incidents for server in states),
            },
            "journal": {"pending": sum(shard.pending for shard in self._shards)},
        }

    def _described(self) -> list[dict[str, Any]]:
        """The shards as :meth:`state` has them."""
        return [
            {
                "number": link.number,
                "slot": link.slot,
                "node": link.server,
                "generation": link.generation,
                "is_available": (incident := shard.incident) is None,
                "since": None if incident is None else incident.since,
                "cause": None if incident is None else str(incident.cause),
                "bus": shard.bus.state,
                "pending": shard.pending,
                "last_failover": None
                if link.failed_over_at is None
                else {"at": link.failed_over_at, "before": link.before},
            }
            for link, shard in zip(self._nodes.links, self._shards, strict=True)
        ]
