"""A TCP proxy that takes its time: each answer of the server behind it comes late, or in drops."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Self


class Sluggish:
    """Forwards connections to a port of the loopback interface, while the `with` block lasts.

    Args:
        port: of the server.

    Attributes:
        delay: seconds that each answer, or each drop of it, is held up.
        drop: bytes that are sent at once; 0 sends whole answers.
        held_up: answers that were held up so far.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._server: asyncio.Server | None = None
        self.port = 0
        self.delay = 0.0
        self.drop = 0
        self.held_up = 0

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(10)
        return self

    def __exit__(self, *exc_info: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        """For a client of the server behind it."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        answering = asyncio.ensure_future(self._answer(there, writer))
        try:
            while data := await reader.read(1 << 20):
                back.write(data)
                await back.drain()
        except (OSError, asyncio.CancelledError):
            pass  # either end is gone, or the test is over
        finally:
            answering.cancel()
            for end in (back, writer):
                with contextlib.suppress(OSError):
                    end.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 20):
                self.held_up += self.delay > 0
                size = self.drop or len(data)
                for start in range(0, len(data), size):
                    if self.delay:
                        await asyncio.sleep(self.delay)
                    writer.write(data[start : start + size])
                    await writer.drain()
            writer.close()
