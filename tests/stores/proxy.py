"""A TCP proxy in front of a server: it writes down every request, and can be cut, held up and mended."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from typing import Self

import hiredis


class Proxy:
    """Forwards connections to a port of the loopback interface.

    A request is what a client sends before all of it is answered. Who sends two commands in one write makes one
    request, however slowly the bytes come; who waits for a reply in between makes two.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads: list[threading.Thread] = []
        self.requests: list[bytes] = []
        self.held = threading.Event()
        #: As `held`, but for the connections of subscribers only.
        self.deaf = threading.Event()
        #: Bytes a second from a client to the server; 0 for no limit.
        self.rate = 0
        #: Requests with these bytes arrive, and the connection is closed in place of their answer.
        self.unanswered = b""
        self.port = 0

    def __enter__(self) -> Self:
        self.mend()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.cut()
        self.held.clear()
        self.deaf.clear()
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

    def aim(self, port: int) -> None:
        """Forward to another port from now on; connections that there are stay as they are."""
        self._target = port

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
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs.append((client, server))
            self._start(self._serve, client, server)

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        asked, answered, request, subscriber = _Commands(), _Replies(), -1, False
        with client, server, contextlib.suppress(OSError):
            while True:
                ready, _, _ = select.select([client, server], [], [])
                if server in ready:
                    data = server.recv(1 << 20)
                    if not data:
                        return
                    answered.feed(data)
                    if self.unanswered and request >= 0 and self.unanswered in self.requests[request]:
                        return
                    if not self._swallows(subscriber):
                        client.sendall(data)
                if client in ready:
                    data = client.recv(1 << 16 if self.rate else 1 << 20)
                    if not data:
                        return
                    if self.rate:
                        time.sleep(len(data) / self.rate)
                    with self._lock:
                        if not asked.rest and answered.count >= asked.count:
                            answered.count = asked.count  # what a subscriber was told answers nothing
                            request = len(self.requests)
                            self.requests.append(b"")
                        self.requests[request] += data
                    asked.feed(data)
                    subscriber = subscriber or b"SUBSCRIBE" in data
                    if not self._swallows(subscriber):
                        server.sendall(data)

    def _swallows(self, subscriber: bool) -> bool:
        return self.held.is_set() or (subscriber and self.deaf.is_set())


class _Replies:
    """Counts what a server says on a connection."""

    def __init__(self) -> None:
        self.count = 0
        self._reader = hiredis.Reader(notEnoughData=Ellipsis)

    def feed(self, data: bytes) -> None:
        with contextlib.suppress(hiredis.HiredisError):  # a snapshot sent to a replica is no reply
            self._reader.feed(data)
            while self._reader.gets() is not Ellipsis:
                self.count += 1


class _Commands:
    """Counts the whole commands that a client sends on a connection; the rest is the beginning of the next."""

    def __init__(self) -> None:
        self.count = 0
        self.rest = b""

    def feed(self, data: bytes) -> None:
        self.rest += data
        begin, end = 0, self._end(0)
        while end > begin:
            self.count += 1
            begin, end = end, self._end(end)
        self.rest = self.rest[begin:]

    def _end(self, begin: int) -> int:
        """Where the command that begins here ends; where it begins when it is not whole."""
        at = self.rest.find(b"\r\n", begin)
        if at < 0:
            return begin
        for _ in range(int(self.rest[begin + 1 : at])):
            line = self.rest.find(b"\r\n", at + 2)
            if line < 0:
                return begin
            at = line + 2 + int(self.rest[at + 3 : line])
        return at + 2 if at + 2 <= len(self.rest) else begin
