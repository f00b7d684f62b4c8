"""The pods' pause image, out of containerd's configuration: 2.x does not tell it over CRI."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import tomllib
from collections.abc import Sequence
from typing import Any

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
    command = _dump_command(_command_of(runtime_socket))
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


def _command_of(path: str) -> list[str]:
    """Command line of the process that listens on a unix socket (unix(7), SO_PEERCRED)."""
    size = struct.calcsize("3i")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            probe.connect(path)
            pid = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
        with open(f"/proc/{pid[0]}/cmdline", "rb") as file:
            return os.fsdecode(file.read(65_536)).split("\0")[:-1]
    except OSError:
        return []


def _dump_command(command: Sequence[str]) -> list[str]:
    """`containerd [--config FILE] config dump`, or nothing for another runtime's command line."""
    if not command or os.path.basename(command[0]) != "containerd":
        return []
    program = command[0] if os.path.isabs(command[0]) else "/usr/bin/containerd"
    for index, word in enumerate(command):
        if word in {"-c", "--config"} and index + 1 < len(command):
            return [program, "--config", command[index + 1], "config", "dump"]
        if word.startswith(("--config=", "-c=")):
            return [program, "--config", word.partition("=")[2], "config", "dump"]
    return [program, "config", "dump"]
