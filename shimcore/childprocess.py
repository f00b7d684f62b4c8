"""What a command prints, bounded in time and bytes; cut off, what it has started ends with it."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Mapping, Sequence
from contextlib import suppress

END_S = 2.0
"""For what was killed to be gone; one that has left its group is not waited for."""

_PIECE_BYTES = 65_536


async def output_of(
    words: Sequence[str],
    environment: Mapping[str, str] | None = None,
    *,
    limit_bytes: int,
    timeout_s: float,
    with_errors: bool = False,
) -> tuple[bytes, int | None]:
    """What it prints, and its exit status; None for that where it prints more than the limit.

    `with_errors`: what goes to its standard error is among it. Raises OSError where it cannot be
    run, and TimeoutError.
    """
    process = await asyncio.create_subprocess_exec(
        *words,
        env=environment,
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=STDOUT if with_errors else DEVNULL,
        start_new_session=True,
    )
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    has_ended = False
    try:
        async with asyncio.timeout(timeout_s):
            output = await _read(process.stdout, limit_bytes)
            if len(output) > limit_bytes:
                return output, None
            status = await process.wait()
            has_ended = True
            return output, status
    finally:
        if not has_ended:
            await _end(process, process.stdout)


async def _read(stdout: asyncio.StreamReader, limit_bytes: int) -> bytes:
    """All of it, or a little more than the limit."""
    output = bytearray()
    while len(output) <= limit_bytes and (piece := await stdout.read(_PIECE_BYTES)):
        output += piece
    return bytes(output)


async def _end(process: asyncio.subprocess.Process, stdout: asyncio.StreamReader) -> None:
    """Kill it and its group, and return when it is gone."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(TimeoutError):
        async with asyncio.timeout(END_S):
            # asyncio waits for a full pipe that nobody reads, too.
            while await stdout.read(_PIECE_BYTES):
                pass
            await process.wait()
