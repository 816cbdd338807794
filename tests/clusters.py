"""Real clusters for tests: Redis Cluster and Valkey Cluster on the loopback interface.

::

    def test_x(cluster): ...            # three masters, of Redis and of Valkey in turn, empty
    def test_y(private_cluster):        # a test that kills, moves or fails over has its own
        cluster = private_cluster(replicas=1)
        cluster.url, cluster.nodes, cluster.client()
        cluster.master_of(slot).kill()

Nodes that are killed stay dead until `restart`. Whatever was started is stopped by the fixture, or by `tests.reaper`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Self

import redis

from tests.binaries import Binary
from tests.certificates import Certificate
from tests.processes import free_port, wait_until
from tests.servers import Server

__all__ = ["Cluster"]

_SLOTS = 16384
_BOOT_SECONDS = 60.0


class Cluster:
    """Some masters, each with some replicas.

    Args:
        binary: the program, from `find_binary`.
        masters: how many.
        replicas: of each.
        tls: with it, all nodes speak TLS alone.
        config: the configuration of each node; `cluster_node_timeout` in milliseconds.
    """

    def __init__(
        self, binary: Binary, *, masters: int = 3, replicas: int = 0, tls: Certificate | None = None, **config: Any
    ) -> None:
        self.binary = binary
        self._masters = masters
        self._replicas = replicas
        self._tls = tls
        self.nodes = [
            Server(
                binary,
                tls=tls,
                **{
                    **({} if tls is None else {"tls_cluster": "yes"}),
                    "cluster_enabled": "yes",
                    "cluster_port": free_port(),
                    "cluster_node_timeout": 1500,
                    "cluster_require_full_coverage": "no",
                    "cluster_replica_validity_factor": 0,
                    "repl_diskless_sync_delay": 0,
                    **config,
                },
            )
            for _ in range(masters * (1 + replicas))
        ]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<{self.binary} cluster on ports {', '.join(str(node.port) for node in self.nodes)}>"

    @property
    def masters(self) -> list[Server]:
        """Those that were masters at the beginning."""
        return self.nodes[: self._masters]

    @property
    def replicas(self) -> list[Server]:
        """Those that were replicas at the beginning; the first is the first master's."""
        return self.nodes[self._masters :]

    @property
    def url(self) -> str:
        """`redis+cluster://…` with all nodes."""
        address = "+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        return f"redis{address}" if self._tls is None else f"rediss{address}?ssl_ca_certs={self._tls.certificate}"

    def start(self) -> Self:
        """Start the nodes and make a cluster of them; waits until all of them agree."""
        for node in self.nodes:
            node.start()
        clients = [node.client() for node in self.nodes]
        first = self.nodes[0]
        for number, client in enumerate(clients):
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
            if number:
                client.execute_command("CLUSTER MEET", "127.0.0.1", first.port, str(first.config["cluster_port"]))
        for number, client in enumerate(clients[: self._masters]):
            low, high = number * _SLOTS // self._masters, (number + 1) * _SLOTS // self._masters - 1
            client.execute_command("CLUSTER ADDSLOTSRANGE", low, high)
        wait_until(
            lambda: all(self._knows(c) == len(clients) for c in clients), timeout=_BOOT_SECONDS, what="a meeting"
        )
        for number, client in enumerate(clients[self._masters :]):
            found: Any = clients[number % self._masters].execute_command("CLUSTER MYID")
            master = found.decode()
            client.execute_command("CLUSTER REPLICATE", master)
        self.wait_well()
        return self

    def _knows(self, client: redis.Redis) -> int:
        info: Any = client.execute_command("CLUSTER INFO")
        return int(_fields(info)["cluster_known_nodes"])

    def wait_well(self, *, timeout: float = _BOOT_SECONDS) -> None:
        """Wait until every node that runs sees the cluster as whole, and every replica follows."""

        def is_well() -> bool:
            for node in self.nodes:
                if not node.is_running:
                    continue
                with node.client() as client:
                    info: Any = client.execute_command("CLUSTER INFO")
                    replication: Any = client.info("replication")
                if _fields(info)["cluster_state"] != "ok":
                    return False
                if replication["role"] == "slave" and replication["master_link_status"] != "up":
                    return False
            return True

        wait_until(is_well, timeout=timeout, what="a cluster")

    def client(self) -> redis.Redis:
        """A client of the first node that runs."""
        return next(node for node in self.nodes if node.is_running).client()

    def empty(self) -> None:
        """Remove everything."""
        for node in self.nodes:
            with node.client() as client:
                role: Any = client.execute_command("ROLE")
                if role[0] == b"master":
                    client.flushall()
                    client.config_resetstat()

    # --- Who has what

    def master_of(self, slot: int) -> Server:
        """The node that serves a slot now, as the first node that runs sees it."""
        with self.client() as client:
            rows: Any = client.execute_command("CLUSTER SLOTS")
        for low, high, master, *_ in _rows(rows):
            if low <= slot <= high:
                return next(node for node in self.nodes if node.port == master)
        raise LookupError(f"nobody serves slot {slot}")

    def id_of(self, node: Server) -> str:
        """The id of a node."""
        with node.client() as client:
            name: Any = client.execute_command("CLUSTER MYID")
        return str(name.decode())

    # --- What may happen

    def fail_over(self, replica: Server) -> None:
        """A planned failover: a replica takes over from its master, which becomes a replica."""
        with replica.client() as client:
            client.execute_command("CLUSTER FAILOVER")
        wait_until(lambda: _role(replica) == b"master", timeout=20, what="a failover")

    def move_slot(
        self, slot: int, target: Server, *, pause: float = 0.0, meanwhile: Callable[[], None] | None = None
    ) -> None:
        """Move a slot as `redis-cli --cluster reshard` does, key by key.

        Args:
            slot: the slot.
            target: the master that gets it.
            pause: seconds after each key.
            meanwhile: called when half of the keys have gone.
        """
        source = self.master_of(slot)
        if source is target:
            return
        there, here = target.client(), source.client()
        there.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", self.id_of(source))
        here.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", self.id_of(target))
        keys_there: Any = here.execute_command("CLUSTER COUNTKEYSINSLOT", slot)
        moved, half = 0, int(keys_there) // 2
        while keys := here.execute_command("CLUSTER GETKEYSINSLOT", slot, 1):
            here.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
            moved += 1
            if meanwhile is not None and moved == half:
                meanwhile()
            if pause:
                time.sleep(pause)
        for client in (there, here, *[node.client() for node in self.nodes if node.is_running]):
            try:
                client.execute_command("CLUSTER SETSLOT", slot, "NODE", self.id_of(target))
            except redis.ResponseError:  # a replica hears of it
                continue

    def move_slots(self, slots: Sequence[int], source: Server, target: Server) -> None:
        """Move slots that have no keys, or hardly any, one after the other."""
        there: Any = source.client()
        empty = [slot for slot in slots if not int(there.execute_command("CLUSTER COUNTKEYSINSLOT", slot))]
        for slot in set(slots) - set(empty):
            self.move_slot(slot, target)
        name = self.id_of(target)
        for client in [node.client() for node in self.masters if node.is_running]:
            pipeline = client.pipeline(transaction=False)
            for slot in empty:
                pipeline.execute_command("CLUSTER SETSLOT", slot, "NODE", name)
            pipeline.execute()

    def stop(self) -> None:
        """Stop all nodes."""
        for node in self.nodes:
            node.stop()


def _fields(info: Any) -> dict[str, str]:
    text = info if isinstance(info, dict) else info.decode()
    if isinstance(text, dict):
        return {str(name): str(value) for name, value in text.items()}
    return dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)


def _rows(rows: Any) -> list[tuple[int, int, int]]:
    if isinstance(rows, dict):  # redis-py has parsed them
        return [(low, high, parts["primary"][1]) for (low, high), parts in rows.items()]
    return [(low, high, master[1]) for low, high, master, *_ in rows]


def _role(node: Server) -> bytes:
    with node.client() as client:
        role: Any = client.execute_command("ROLE")
    return bytes(role[0])
