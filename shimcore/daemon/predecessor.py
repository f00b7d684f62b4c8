"""A start beside the process that serves now, which hands over: the successor's side.

They talk over a pair of sockets, a line at a time (`shimcore.daemon.handover` is the other side):

    shell between: started PID
    successor: able VERSION         the configuration is good, and the runtime answers
    predecessor: go                 it accepts no client any more; its admin socket is free
    successor: serving              it does both now
    predecessor: main ADDRESS       from here on this is the service's main process, for systemd too

`failed REASON` of the successor, or its end, and the predecessor goes on as if nothing had been.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket

from shimcore import __version__
from shimcore.errors import ShimError

CHANNEL = "IMAGE_CRI_SHIM_HANDOVER"
"""Names the descriptor of the successor's end."""
STARTED, ABLE, SERVING, FAILED = "started", "able", "serving", "failed"  # of the successor
GO, MAIN = "go", "main"  # to it
LINE_BYTES = 4096


class Predecessor:
    """The process that this one takes over from."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def connect(self) -> None:
        """To be called once, in the loop."""
        self._reader, self._writer = await asyncio.open_connection(
            sock=self._channel, limit=LINE_BYTES
        )

    async def may_serve(self) -> None:
        """Returns when both sockets are this process's. Raises ShimError."""
        await self._say(f"{ABLE} {__version__}")
        await self._hear(GO)

    async def serving(self) -> None:
        """This process serves: from here on systemd is told by it. Raises ShimError."""
        await self._say(SERVING)
        address = (await self._hear(MAIN)).strip()
        if address:
            os.environ["NOTIFY_SOCKET"] = address
        self._writer.close()

    def failed(self, why: str) -> None:
        """Say why this process does not serve, if anybody is there."""
        with contextlib.suppress(OSError):
            self._channel.send(f"{FAILED} {' '.join(why.split())}\n".encode()[:LINE_BYTES])

    async def _say(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._writer.write(f"{text}\n".encode())
            await self._writer.drain()

    async def _hear(self, word: str) -> str:
        try:
            line = (await self._reader.readline()).decode(errors="replace").strip()
        except (OSError, ValueError):
            line = ""
        said, _, rest = line.partition(" ")
        if said != word:
            raise ShimError("the process that handed over has taken it back")
        return rest


def inherited_predecessor() -> Predecessor | None:
    """The process that has started this one to take over; None for any other start."""
    text = os.environ.pop(CHANNEL, "")
    if not (text.isascii() and text.isdecimal()):
        return None
    try:
        os.set_inheritable(int(text), False)
        channel = socket.socket(fileno=int(text))
    except OSError as error:
        raise ShimError(f"{CHANNEL}: descriptor {text} cannot be used: {error.strerror}") from error
    channel.setblocking(False)
    return Predecessor(channel)
