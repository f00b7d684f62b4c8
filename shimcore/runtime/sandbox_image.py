"""The pods' pause image, out of containerd's configuration: 2.x does not tell it over CRI."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tomllib
from collections.abc import Sequence
from typing import Any

from shimcore.runtime.peer import peer_of

OUTPUT_LIMIT_BYTES = 1 << 20
"""containerd's whole configuration has some ten KiB."""

_PATHS = (
    ("plugins", "io.containerd.cri.v1.images", "pinned_images", "sandbox"),
    ("plugins", "io.containerd.grpc.v1.cri", "sandbox_image"),
)
"""Where containerd 2.x and 1.x keep it."""


async def configured_sandbox_image(runtime_socket: str, timeout_s: float) -> str:
    """What `containerd config dump` says, defaults and imports included; "" if it says nothing.

    The command and its configuration file are those of the process behind the socket.
    """
    peer = peer_of(runtime_socket)
    command = _dump_command(peer.command if peer else ())
    if not command:
        return ""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return ""
    try:
        async with asyncio.timeout(timeout_s):
            output = await _read(process)
    except TimeoutError:
        return ""
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return sandbox_image_in(output.decode(errors="replace"))


async def _read(process: asyncio.subprocess.Process) -> bytes:
    """All that it writes, up to the limit."""
    output = b""
    while process.stdout is not None and len(output) < OUTPUT_LIMIT_BYTES:
        part = await process.stdout.read(65_536)
        if not part:
            break
        output += part
    return output


def sandbox_image_in(config: str) -> str:
    """The pause image in the text of a containerd configuration (TOML), or ""."""
    try:
        tree: Any = tomllib.loads(config)
    except tomllib.TOMLDecodeError:
        return ""
    for path in _PATHS:
        value = tree
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, str) and value:
            return value
    return ""


def _dump_command(command: Sequence[str]) -> list[str]:
    """`containerd [--config FILE] config dump`, or nothing for another runtime's command line."""
    if not command or os.path.basename(command[0]) != "containerd":
        return []
    program = command[0] if os.path.isabs(command[0]) else shutil.which(command[0])
    if program is None:
        return []
    for index, word in enumerate(command):
        if word in {"-c", "--config"} and index + 1 < len(command):
            return [program, "--config", command[index + 1], "config", "dump"]
        if word.startswith(("--config=", "-c=")):
            return [program, "--config", word.partition("=")[2], "config", "dump"]
    return [program, "config", "dump"]
