"""The shim of the demo: a process of its own, ended with the demo."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from shimcore.errors import ShimError
from shimcore.unixsocket import connection_error

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
_POLL_S = 0.02
_REMARK_LIMIT = 200

# The demo's registry is on this machine; a proxy would only be in the way.
_LEFT_OUT = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "NOTIFY_SOCKET")
_LEFT_OUT_PREFIXES = ("LISTEN_", "IMAGE_CRI_SHIM_")


class DemoError(ShimError):
    """Something in the demo was not as it should be."""


@contextlib.asynccontextmanager
async def serving(
    command: Sequence[str], environment: Mapping[str, str], socket_path: Path, log: Path
) -> AsyncIterator[float]:
    """Seconds until the process that `command` starts accepts connections at `socket_path`.

    What it writes goes to the file `log`. Raises DemoError when it does not come up.
    """
    started = time.monotonic()
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=_environment(environment),
            start_new_session=True,  # an interrupt of the terminal is for the demo to handle
        )
    try:
        while connection_error(str(socket_path)) is not None:
            if process.returncode is not None:
                raise DemoError(f"the shim ended with status {process.returncode}{remark(log)}")
            if time.monotonic() - started > START_TIMEOUT_S:
                raise DemoError(
                    f"the shim did not serve within {START_TIMEOUT_S:.0f} s{remark(log)}"
                )
            await asyncio.sleep(_POLL_S)
        yield time.monotonic() - started
    finally:
        await _end(process)


def remark(log: Path) -> str:
    """The last line of the shim's log, to be added to an error; "" when there is none."""
    lines = log.read_text(errors="replace").splitlines()
    return f"; its last words: {lines[-1][:_REMARK_LIMIT]}" if lines else ""


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in _LEFT_OUT and not name.startswith(_LEFT_OUT_PREFIXES)
    }
    return kept | dict(more)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
