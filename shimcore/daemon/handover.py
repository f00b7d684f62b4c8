"""Handing over to a new process without a gap: the side that serves until then.

The successor is started from here, in this process's own unit and restrictions, with the listening
socket that systemd holds. Only when it is able to serve does anything change here; until it serves,
everything is taken back if it fails. Then systemd is told which process is the main one, and this
one finishes what runs in it (`Relay.retire`).

It is started so that systemd is its parent (a child of a child that ends): systemd learns of the
end of its own children alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from shimcore.daemon.notify import notify
from shimcore.daemon.predecessor import (
    ABLE,
    CHANNEL,
    FAILED,
    GO,
    LINE_BYTES,
    MAIN,
    SERVING,
    STARTED,
)
from shimcore.errors import ShimError
from shimcore.threads import in_thread

if TYPE_CHECKING:
    from shimcore.daemon.front import Front

ABLE_S = 120.0
"""How long the successor may take until the runtime has answered it."""
SERVING_S = 10.0
"""How long nobody may accept clients: they wait in the socket that systemd holds."""

HEARD_S = 0.2
"""For systemd to take the successor for the main process. A signal to stop that comes here until
then was meant for the service: it ends the successor, too, which nobody else would."""

STARTED_S = 10.0
"""For the shell in the middle."""

# $0 is the command. The first shell ends at once; $$ of the second is what `exec` keeps. What comes
# as standard input is the listening socket, as standard output the channel.
_START = """\
exec 3<&0 4>&1 </dev/null >&2
sh -c 'echo "started $$" >&4; LISTEN_PID=$$ exec "$0" "$@"' "$0" "$@" &"""
_GIVEN = {"LISTEN_FDS": "1", CHANNEL: "4"}
_OURS = ("NOTIFY_SOCKET", "WATCHDOG_PID", "SYSTEMD_EXEC_PID", "LISTEN_PID", "LISTEN_FDNAMES")


class HandOverError(ShimError):
    """The successor does not serve; this process goes on."""


class CannotHandOverError(HandOverError):
    """This process cannot hand over now, whoever the successor is."""


class NobodyServesError(ShimError):
    """Nor can this process again, which has to end."""

    def __init__(self, why: Exception) -> None:
        super().__init__(f"this process ends, for it cannot serve again: {why}")


@dataclass(frozen=True, slots=True)
class Successor:
    """The process that serves from here on."""

    pid: int
    version: str


HandOver = Callable[[str], Coroutine[None, None, Successor]]
"""Hands over to a command. Raises HandOverError, NobodyServesError."""


class Conversation:
    """With a successor that has been started. Raises HandOverError at whatever goes wrong."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def hear(self, word: str, limit_s: float) -> str:
        """What comes after the word, which has to come next."""
        try:
            async with asyncio.timeout(limit_s):
                line = (await self._reader.readline()).decode(errors="replace").strip()
        except TimeoutError as error:
            raise HandOverError(f"the new process is not {word} after {limit_s:g} s") from error
        except (OSError, ValueError) as error:
            raise HandOverError(f"the new process cannot be heard: {error}") from error
        said, _, rest = line.partition(" ")
        if said == FAILED:
            raise HandOverError(f"the new process does not serve: {rest}")
        if said != word:
            raise HandOverError("the new process ended before it was " + word)
        return rest

    async def say(self, text: str) -> None:
        """One line."""
        try:
            self._writer.write(f"{text}\n".encode())
            await self._writer.drain()
        except OSError as error:
            raise HandOverError(f"the new process is gone: {error}") from error

    def close(self) -> None:
        """There is nothing more to say."""
        self._writer.close()


async def hand_over(
    command: str, front: Front, come_back: Callable[[], Awaitable[None]]
) -> Successor:
    """Start `command` as the successor, and return once it serves in this process's place.

    `come_back` undoes that the front was left. Raises HandOverError, and this process serves as
    before; so it does where this is cancelled, at any moment until it returns. Raises
    NobodyServesError where it cannot.
    """
    if front.socket is None:
        raise CannotHandOverError("systemd does not hold its socket")
    talk = await _start(command, front.socket)
    try:
        pid = _number(await talk.hear(STARTED, STARTED_S))
        try:
            version = await talk.hear(ABLE, ABLE_S)
            await _leave_to(talk, pid, front, come_back)
        except BaseException:
            _end(pid)
            raise
    finally:
        talk.close()
    return Successor(pid, version)


async def _leave_to(
    talk: Conversation, pid: int, front: Front, come_back: Callable[[], Awaitable[None]]
) -> None:
    try:
        await front.leave()
        await talk.say(GO)
        await talk.hear(SERVING, SERVING_S)
        notify(f"MAINPID={pid}")
        address = os.environ.pop("NOTIFY_SOCKET", "")  # systemd hears its main process alone
        await asyncio.sleep(HEARD_S)
    except BaseException:
        _end(pid)  # before this process is back: each socket has one owner
        try:
            await come_back()
        except Exception as error:
            raise NobodyServesError(error) from error
        raise
    with contextlib.suppress(HandOverError):  # it serves, whatever it can still hear
        await talk.say(f"{MAIN} {address}")


async def _start(command: str, listening: socket.socket) -> Conversation:
    ours, theirs = socket.socketpair()
    given = listening.dup(), theirs  # the thread's, which a stop does not end
    try:
        await in_thread(partial(_run, command, *given))
    except asyncio.CancelledError:
        ours.close()
        raise
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        for each in (ours, *given):  # RuntimeError: no thread can be had
            each.close()
        raise HandOverError(f"{command}: cannot be started: {error}") from error
    ours.setblocking(False)
    return Conversation(*await asyncio.open_connection(sock=ours, limit=LINE_BYTES))


def _run(command: str, listening: socket.socket, channel: socket.socket) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in _OURS}
    with listening, channel:
        subprocess.run(  # noqa: S603 - root's own command, by the admin socket that is root's
            ["/bin/sh", "-c", _START, command, *sys.argv[1:]],
            stdin=listening.fileno(),
            stdout=channel.fileno(),
            env={**environment, **_GIVEN},
            check=True,
            timeout=STARTED_S,
        )


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) > 1):
        raise HandOverError(f"the new process cannot be started: {text!r} is no process")
    return int(text)


def _end(pid: int) -> None:
    """End a successor that does not serve, if it is not gone yet."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
