"""The limit of what a proxy on asyncio can do: bytes from one socket to the other, unread.

`python -m benchmarks.proxies.splice SOCKET RUNTIME_SOCKET`
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

from benchmarks.proxies import until_terminated


class _End(asyncio.Protocol):
    """One of two sockets; `other` is where its bytes go."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _End | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class _Client(_End):
    """The client's end; what comes before upstream is connected waits."""

    def __init__(self, runtime: str) -> None:
        super().__init__()
        self._runtime = runtime
        self._early: list[bytes] = []
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._task = asyncio.get_running_loop().create_task(self._connect())

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self._early.append(data)
        else:
            super().data_received(data)

    async def _connect(self) -> None:
        upstream = _End()
        upstream.other = self
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: upstream, self._runtime)
        except OSError:
            if self.transport is not None:
                self.transport.abort()
            return
        self.other = upstream
        for data in self._early:
            super().data_received(data)


async def _serve(socket: str, runtime: str) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(lambda: _Client(runtime), socket, backlog=512)
    await until_terminated()
    server.close()


if __name__ == "__main__":
    from benchmarks.proxies import run

    run(_serve(*sys.argv[1:3]))
