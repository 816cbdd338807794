"""Real servers for tests and benchmarks: Redis, Valkey, and applications under gunicorn.

A Redis or Valkey::

    def test_x(server): ...             # both in turn, empty; `redis_server` or `valkey_server` for one
    def test_y(private_server):         # a test that kills, pauses or configures has its own
        server = private_server(maxmemory="3mb", maxmemory_policy="allkeys-lru")
        server.url, server.socket_url, server.port, server.pid
        server.client().set("k", 1)     # a plain redis.Redis, closed with the server
        server.pause(); server.resume(); server.kill(); server.restart(wipe=True)
        replica = private_server(replicaof=("127.0.0.1", server.port))

An application in real processes (one `create_app` in `tests/apps/`, figures over HTTP or in a file)::

    def test_z(server, gunicorn):
        env = {"RCACHE_URL": server.url}
        web = gunicorn("tests.apps.counter:create_app()", workers=4, threads=50, env=env)
        status, headers, body = web.get("/x")
        web.worker_pids                 # of the workers alive now

Both fixtures stop what they started. Without fixtures: `with Server(find_binary("valkey")) as server: ...`
and `with Gunicorn("module:app") as web: ...`. A run that is killed leaves nothing behind
either (`tests.reaper`).
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.binaries import Binary, NoServerError, find_binary
from tests.certificates import Certificate
from tests.gunicorns import Gunicorn
from tests.processes import BootError, Process, free_port, scratch_directory

__all__ = ["Binary", "BootError", "Gunicorn", "NoServerError", "Server", "find_binary"]

Setting = str | int | Sequence[str | int]

_LOOPBACK = "127.0.0.1"
_BOOT_SECONDS = 20.0


class Server:
    """A Redis or Valkey of its own, on a free port of the loopback interface and on a unix socket.

    Args:
        binary: The program, from `find_binary`.
        config: Its configuration, underscores for hyphens: `maxmemory="3mb"`, `requirepass="secret"`,
            `replicaof=("127.0.0.1", 6379)`. Nothing is saved to disk unless `save` says so.
        tls: `tests.certificates.Certificate`: the port is for TLS alone, and so is what the servers say to each other.
    """

    def __init__(self, binary: Binary, *, tls: Certificate | None = None, **config: Setting) -> None:
        self.binary = binary
        self._tls = tls
        self.config: dict[str, Setting] = {"save": "", "appendonly": "no", **config}
        self.directory = scratch_directory("db")
        self.port = 0
        self._process: Process | None = None
        self._clients: list[redis.Redis] = []

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<{self.binary} on port {self.port}>"

    @property
    def process(self) -> Process:
        """The running process."""
        if self._process is None:
            raise RuntimeError(f"{self!r} is not started")
        return self._process

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self.process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process lives (a paused one does)."""
        return self._process is not None and self._process.is_running

    @property
    def socket_path(self) -> Path:
        """The unix socket, the same over restarts."""
        return self.directory / "s"

    @property
    def url(self) -> str:
        """`redis://…`, with the password if there is one."""
        address = f"{self._credentials}{_LOOPBACK}:{self.port}/0"
        return f"redis://{address}" if self._tls is None else f"rediss://{address}?ssl_ca_certs={self._tls.certificate}"

    @property
    def socket_url(self) -> str:
        """`unix://…`, with the password if there is one."""
        return f"unix://{self._credentials}{self.socket_path}"

    @property
    def _credentials(self) -> str:
        password = self.config.get("requirepass")
        return f":{password}@" if password else ""

    def start(self) -> Self:
        """Start it and wait until it answers.

        Raises:
            BootError: It did not come up; the message ends with its log.
        """
        for attempt in range(3):
            self.port = self.port or free_port()
            self._process = Process(self._command(), log_path=self.directory / "log")
            try:
                self._process.wait_ready(self._answers, timeout=_BOOT_SECONDS)
            except BootError as error:
                # Between looking for the port and taking it, somebody else may have taken it.
                if attempt == 2 or "Address already in use" not in str(error):
                    raise
                self.port = 0
                if "cluster_port" in self.config:
                    self.config["cluster_port"] = free_port()
                (self.directory / "log").unlink()
            else:
                break
        return self

    def _command(self) -> list[str]:
        settings: dict[str, Setting] = {
            "bind": _LOOPBACK,
            "port": self.port,
            "unixsocket": str(self.socket_path),
            "dir": str(self.directory),
            **({} if self._tls is None else {**self._tls.settings, "port": 0, "tls_port": self.port}),
            **self.config,
        }
        command = [self.binary.path]
        for name, value in settings.items():
            values = (value,) if isinstance(value, str | int) else value
            command += [f"--{name.replace('_', '-')}", *map(str, values)]
        return command

    def _answers(self) -> bool:
        """Whether it takes commands: a wrong password is an answer, "loading" is not."""
        try:
            with redis.Redis(
                unix_socket_path=str(self.socket_path),
                password=self._password,
                socket_timeout=1.0,
                retry=Retry(NoBackoff(), 0),
            ) as probe:
                return bool(probe.ping()) and self._owns_port(probe)
        except redis.AuthenticationError:
            return True
        except (redis.RedisError, OSError):
            return False

    def _owns_port(self, probe: redis.Redis) -> bool:
        info: Any = probe.info("server")
        return int(info["process_id"]) == self.pid

    @property
    def _password(self) -> str | None:
        password = self.config.get("requirepass")
        return str(password) if password else None

    def client(self, **options: Any) -> redis.Redis:
        """Open a plain client, closed when the server stops; it waits 5 s at most and never retries."""
        client = redis.Redis(
            **{
                "host": _LOOPBACK,
                "port": self.port,
                "password": self._password,
                "socket_timeout": 5.0,
                "retry": Retry(NoBackoff(), 0),
                **({} if self._tls is None else self._tls.client_options),
                **options,
            }
        )
        self._clients.append(client)
        return client

    def stop(self) -> None:
        """End it in order (it saves, if configured to) and close its clients. Twice does no harm."""
        self._close_clients()
        if self._process is not None:
            self._process.stop()

    def kill(self) -> None:
        """SIGKILL: nothing is saved, nobody is told."""
        self.process.kill()

    def pause(self) -> None:
        """SIGSTOP: connections stay open and are accepted, nothing is answered."""
        self.process.signal_group(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT: what was sent meanwhile is carried out now."""
        self.process.signal_group(signal.SIGCONT)

    def restart(self, *, wipe: bool = False, keep_port: bool = True) -> Self:
        """Stop it if it runs, and start it again.

        Args:
            wipe: Forget what it has on disk. Otherwise it loads what was saved (`client().save()`).
            keep_port: Come back on the same port.
        """
        self.stop()
        if wipe:
            for path in [*self.directory.glob("*.rdb"), *self.directory.glob("appendonlydir")]:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        if not keep_port:
            self.port = 0
        return self.start()

    def _close_clients(self) -> None:
        while self._clients:
            self._clients.pop().close()
