"""The pods' pause image, out of containerd's configuration: 2.x does not tell it over CRI."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from typing import Any

from shimcore.childprocess import output_of
from shimcore.config.files import read_file
from shimcore.runtime.peer import containerd_file, peer_of

OUTPUT_LIMIT_BYTES = 1 << 20
"""containerd's whole configuration has some ten KiB."""

CONFIG_FILE = "/etc/containerd/config.toml"
PROGRAM = "/usr/bin/containerd"
"""Where containerd and its configuration are unless its command line says otherwise."""

_PATHS = (
    ("plugins", "io.containerd.cri.v1.images", "pinned_images", "sandbox"),
    ("plugins", "io.containerd.grpc.v1.cri", "sandbox_image"),
)
"""Where containerd 2.x and 1.x keep it."""


async def configured_sandbox_image(runtime_socket: str, timeout_s: float) -> str:
    """What `containerd config dump` says, defaults and imports included; else what its file says.

    Command and file are those of the process behind the socket, or the usual ones where that
    process cannot be seen (a hardened unit). "" where neither says anything.
    """
    peer = peer_of(runtime_socket)
    command = list(peer.command) if peer else []
    if not command and "containerd" in os.path.basename(runtime_socket):
        command = ["containerd"]
    if not command or os.path.basename(command[0]) != "containerd":
        return ""
    file = containerd_file(command) or CONFIG_FILE
    program = command[0] if os.path.isabs(command[0]) else PROGRAM
    dumped = await _output([program, "--config", file, "config", "dump"], timeout_s)
    return sandbox_image_in(dumped) or sandbox_image_in(_text(file))


async def _output(command: Sequence[str], timeout_s: float) -> str:
    """What a command writes, bounded in time and bytes; "" when it cannot be run."""
    try:
        output, _ = await output_of(command, limit_bytes=OUTPUT_LIMIT_BYTES, timeout_s=timeout_s)
    except (OSError, TimeoutError):
        return ""
    return output.decode(errors="replace")


def _text(path: str) -> str:
    try:
        return read_file(path)[0].decode(errors="replace")
    except OSError:
        return ""


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
