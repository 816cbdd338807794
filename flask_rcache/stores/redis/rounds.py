"""The rounds of a cluster: the heartbeats of all shards, the probes of those that are away, and what can wait.

Owns the one maintenance thread of a cluster. What is done for each shard is ``maintenance``'s; here it is done for all
of them together, so that an idle process sends one command a shard and second, in one write to each node.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from ...errors import StoreError
from .counting import Counters
from .housekeeper import Housekeeper
from .links import Link, Node
from .maintenance import Maintenance, store_counts_at_exit
from .nodes import Nodes
from .server import Server
from .steps import Steps

__all__ = ["ClusterRounds", "Shard"]

_PROBE_EVERY: Final = 0.25


class Shard:
    """What a round needs of a shard.

    Args:
        link: its way through the nodes.
        server: what is asked.
        maintenance: what is done for it.
    """

    __slots__ = ("link", "maintenance", "server")

    def __init__(self, link: Link, server: Server, maintenance: Maintenance) -> None:
        self.link: Final = link
        self.server: Final = server
        self.maintenance: Final = maintenance

    @property
    def is_open(self) -> bool:
        """Whether it must not be asked."""
        return self.server.breaker.is_open


class ClusterRounds:
    """The rounds of all shards.

    Args:
        nodes: of the cluster.
        shards: all of them.
        counters: of all processes; they lie on the first shard.
        housekeeper: calls the rounds.
    """

    def __init__(self, nodes: Nodes, shards: Sequence[Shard], counters: Counters, housekeeper: Housekeeper) -> None:
        self._nodes: Final = nodes
        self._shards: Final = tuple(shards)
        self._counters: Final = counters
        self._first: Final = shards[0]
        housekeeper.assign(self._round)
        store_counts_at_exit(self._first.maintenance)

    def _round(self) -> float:
        """One round; the seconds until the next."""
        nodes = self._nodes
        nodes.look_if_due()
        self._together([shard for shard in self._shards if not shard.is_open], Maintenance.beat)
        self._recover([shard for shard in self._shards if shard.is_open])
        well = [shard for shard in self._shards if not shard.is_open]
        self._together([shard for shard in well if shard.maintenance.has_to_tidy], Maintenance.tidy)
        if self._first in well:
            with suppress(StoreError):  # the incident is known by now, and what was counted is stored later
                self._counters.flush(self._first.server.pool.exchange)
        nodes.close_idle()
        pauses = [shard.maintenance.pause for shard in well]
        pauses += [max(shard.server.breaker.probe_in(), 0.05) for shard in self._shards if shard.is_open]
        return min(pauses, default=_PROBE_EVERY)

    def _together(self, shards: Sequence[Shard], work: Any) -> None:
        """Do the same for several shards; what fails is known to their breakers."""
        steps: dict[Link, Steps[None]] = {shard.link: work(shard.maintenance) for shard in shards}
        for failed in self._nodes.drive(steps).values():
            if isinstance(failed, Exception) and not isinstance(failed, StoreError):
                raise failed

    def _recover(self, shards: Sequence[Shard]) -> None:
        """Probe the shards that are away; of a node that does not answer the first only."""
        silent: set[Node] = set()
        if self._nodes.refusal is not None and not any(shard.server.breaker.probe_in() for shard in shards):
            self._nodes.refusal = None  # it may have been changed
        for shard in shards:
            node = shard.link.node
            if self._nodes.refusal is not None or node in silent or shard.server.breaker.probe_in():
                continue
            try:
                shard.maintenance.recover()
            except StoreError:
                self._nodes.look_soon()
                if node is not None and node.is_away:
                    silent.add(node)
