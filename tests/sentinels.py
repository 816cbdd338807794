"""A master, its replica and three sentinels, as tests and the soak need them.

::

    def test_x(sentinels):
        trio = sentinels()                       # Redis; `sentinels("valkey", sentinel_password="s")`
        trio.url                                 # redis+sentinel://…/shop/0
        trio.master.kill()                       # of `trio.servers`, the one that the sentinels name
        trio.fail_over()                         # a planned failover
        trio.sentinels[0].kill()
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.binaries import Binary
from tests.certificates import Certificate
from tests.processes import Process, free_port, scratch_directory, wait_until
from tests.servers import Server

SERVICE = "shop"
#: Milliseconds after which a sentinel takes a master that is silent for dead.
DOWN_AFTER_MS = 500


class Sentinels:
    """A service of one master and one replica, watched by three sentinels.

    Args:
        binary: The program of all five.
        password: Of the servers.
        sentinel_password: Of the sentinels.
        tls: With it, all five speak TLS alone.
    """

    def __init__(
        self,
        binary: Binary,
        *,
        password: str = "",
        sentinel_password: str = "",
        tls: Certificate | None = None,
    ) -> None:
        self._binary = binary
        self._password = password
        self._sentinel_password = sentinel_password
        self._tls = tls
        self.ports = [free_port() for _ in range(3)]
        self.sentinels: list[Process] = []
        secrets: dict[str, Any] = {"requirepass": password, "masterauth": password} if password else {}
        # A replica that has just begun is a candidate at once, and so is the old master.
        quick: dict[str, Any] = {"repl_diskless_sync_delay": 0, "repl_ping_replica_period": 1}
        self.servers = [Server(binary, tls=tls, **secrets, **quick) for _ in range(2)]
        self._clients: list[redis.Redis] = []

    def __enter__(self) -> Self:
        first, second = self.servers
        first.start()
        second.config["replicaof"] = ("127.0.0.1", first.port)
        second.start()
        wait_until(lambda: self._is_synchronised(second), timeout=20, what="the replica")
        self.sentinels = [self._start(port) for port in self.ports]
        wait_until(self._is_complete, timeout=20, what="the sentinels know each other")
        return self

    def _is_synchronised(self, replica: Server) -> bool:
        info: Any = replica.client().info("replication")
        found: bool = info["role"] == "slave" and info["master_link_status"] == "up"
        return found

    def _start(self, port: int) -> Process:
        directory = scratch_directory("se")
        lines = [
            *([f"port {port}"] if self._tls is None else ["port 0", f"tls-port {port}"]),
            *(f"{name.replace('_', '-')} {value}" for name, value in (self._tls.settings if self._tls else {}).items()),
            "bind 127.0.0.1",
            f"dir {directory}",
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.servers[0].port} 2",
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {SERVICE} 3000",
        ]
        if self._password:
            lines.append(f"sentinel auth-pass {SERVICE} {self._password}")
        if self._sentinel_password:
            lines += [f"requirepass {self._sentinel_password}", f"sentinel sentinel-pass {self._sentinel_password}"]
        path = directory / "sentinel.conf"
        path.write_text("\n".join(lines) + "\n")
        process = Process([self._binary.path, str(path), "--sentinel"], log_path=directory / "log")
        process.wait_ready(lambda: self._answers(port), timeout=20)
        return process

    def _answers(self, port: int) -> bool:
        try:
            return bool(self.client(port).ping())
        except (redis.RedisError, OSError):
            return False

    def _is_complete(self) -> bool:
        for port in self.ports:
            masters: Any = self.client(port).sentinel_masters()
            known = masters[SERVICE]
            if known["num-other-sentinels"] != 2 or known["num-slaves"] != 1:
                return False
        return True

    def client(self, port: int) -> redis.Redis:
        """A client of the sentinel on a port."""
        client = redis.Redis(
            port=port,
            password=self._sentinel_password or None,
            socket_timeout=5.0,
            retry=Retry(NoBackoff(), 0),
            **({} if self._tls is None else self._tls.client_options),
        )
        self._clients.append(client)
        return client

    @property
    def url(self) -> str:
        """As the cache takes it."""
        secret = f":{self._password}@" if self._password else ""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        address = f"+sentinel://{secret}{hosts}/{SERVICE}/0"
        return f"redis{address}" if self._tls is None else f"rediss{address}?ssl_ca_certs={self._tls.certificate}"

    @property
    def options(self) -> dict[str, Any]:
        """`RCACHE_SENTINEL_OPTIONS` that go with it."""
        return {"password": self._sentinel_password} if self._sentinel_password else {}

    @property
    def master(self) -> Server:
        """The server that most sentinels name."""
        named = []
        for port in self.ports:
            with contextlib.suppress(redis.RedisError, OSError):
                known: Any = self.client(port).sentinel_master(SERVICE)
                named.append(int(known["port"]))
        port = max(set(named), key=named.count)
        return next(server for server in self.servers if server.port == port)

    @property
    def replica(self) -> Server:
        """The other one."""
        master = self.master
        return next(server for server in self.servers if server is not master)

    def fail_over(self) -> None:
        """Have the replica made the master, as for maintenance; returns when a sentinel names it."""
        before = self.master
        self._can_fail_over()
        self.client(self.ports[0]).sentinel_failover(SERVICE)
        wait_until(lambda: self.master is not before, timeout=20, what="the failover")

    def _can_fail_over(self) -> None:
        """A replica that has just come back is no candidate yet."""

        def is_candidate() -> bool:
            known: Any = self.client(self.ports[0]).sentinel_slaves(SERVICE)
            return any(each["master-link-status"] == "ok" and not each["is_sdown"] for each in known)

        wait_until(is_candidate, timeout=20, what="a replica that can take over")

    def __exit__(self, *exc_info: object) -> None:
        for client in self._clients:
            client.close()
        for process in self.sentinels:
            process.kill()
        for server in self.servers:
            server.stop()


#: What the fixture `sentinels` is.
MakesSentinels = Callable[..., Sentinels]
