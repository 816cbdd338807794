"""A TCP proxy in front of a server: it writes down every request, and can be cut, held up and mended."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from typing import Self

_QUIET = 0.02  # seconds without another byte after which a request is whole


class Proxy:
    """Forwards connections to a port of the loopback interface.

    A request is what a client sends before it waits: bytes until 20 ms of silence. Who sends two commands in one write
    makes one request; who waits for a reply in between makes two.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads: list[threading.Thread] = []
        self.requests: list[bytes] = []
        self.held = threading.Event()
        self.port = 0

    def __enter__(self) -> Self:
        self.mend()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.cut()
        self.held.clear()
        for thread in self._threads:
            thread.join(5)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def mend(self) -> None:
        """Accept connections, on the same port as before."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(64)
        self.port = listener.getsockname()[1]
        self._listener = listener
        self._start(self._accept, listener)

    def cut(self) -> None:
        """Refuse new connections and close those there are."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        with self._lock:
            for pair in self._pairs:
                for end in pair:
                    with contextlib.suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)
            self._pairs.clear()

    def _start(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs.append((client, server))
            self._start(self._serve, client, server)

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        with client, server, contextlib.suppress(OSError):
            while True:
                ready, _, _ = select.select([client, server], [], [])
                if server in ready:
                    data = server.recv(1 << 20)
                    if not data:
                        return
                    if not self.held.is_set():
                        client.sendall(data)
                if client in ready:
                    request = self._request(client)
                    if not request:
                        return
                    self.requests.append(request)
                    if not self.held.is_set():
                        server.sendall(request)

    def _request(self, client: socket.socket) -> bytes:
        request = client.recv(1 << 20)
        while select.select([client], [], [], _QUIET)[0]:
            more = client.recv(1 << 20)
            if not more:
                return b""
            request += more
        return request
