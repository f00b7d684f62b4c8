"""The pods' pause image, out of a runtime's configuration.

Over CRI containerd 2.x does not tell it, nor CRI-O before 1.27.
"""

from __future__ import annotations

import asyncio
import os
import tomllib
from collections.abc import Sequence

from shimcore.childprocess import output_of
from shimcore.config.files import read_file
from shimcore.jsontext import text_at
from shimcore.runtime.peer import containerd_file, peer_of

OUTPUT_LIMIT_BYTES = 1 << 20
"""A runtime's whole configuration has some ten KiB."""

CONFIG_FILE = "/etc/containerd/config.toml"
PROGRAM = "/usr/bin/containerd"
"""Where containerd and its configuration are unless its command line says otherwise."""

_PATHS = (
    ("plugins", "io.containerd.cri.v1.images", "pinned_images", "sandbox"),
    ("plugins", "io.containerd.grpc.v1.cri", "sandbox_image"),
    ("crio", "image", "pause_image"),
)
"""Where containerd 2.x, containerd 1.x and CRI-O keep it."""


async def configured_sandbox_image(runtime_socket: str, timeout_s: float) -> str:
    """What CRI-O says over its socket, or `containerd config dump`: with defaults and imports.

    Else what containerd's file says. Command and file are those of the process behind the socket,
    or the usual ones where that process cannot be seen (a hardened unit). "" where nothing is said.
    """
    peer = peer_of(runtime_socket)
    command = list(peer.command) if peer else []
    if not command:
        names = ("containerd", "crio")
        command = [name for name in names if name in os.path.basename(runtime_socket)][:1]
    name = os.path.basename(command[0]) if command else ""
    if name == "crio":
        return sandbox_image_in(await _told_by_crio(runtime_socket, timeout_s))
    if name != "containerd":
        return ""
    file = containerd_file(command) or CONFIG_FILE
    program = command[0] if os.path.isabs(command[0]) else PROGRAM
    dumped = await _output([program, "--config", file, "config", "dump"], timeout_s)
    return sandbox_image_in(dumped) or sandbox_image_in(_text(file))


async def _told_by_crio(runtime_socket: str, timeout_s: float) -> str:
    """Its configuration (GET /config beside CRI), bounded in time and bytes; "" for anything else.

    Source: CRI-O's server/inspect.go.
    """
    import httpx  # noqa: PLC0415 - only such nodes need it here

    text = bytearray()
    try:
        async with (
            asyncio.timeout(timeout_s),
            httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=runtime_socket)) as client,
            client.stream("GET", "http://crio/config", timeout=timeout_s) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                return ""
            async for chunk in answer.aiter_raw():
                text += chunk
                if len(text) > OUTPUT_LIMIT_BYTES:
                    return ""
    except (httpx.HTTPError, TimeoutError):
        return ""
    return text.decode(errors="replace")


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
    """The pause image in the text of a runtime's configuration (TOML), or ""."""
    try:
        tree = tomllib.loads(config)
    except tomllib.TOMLDecodeError:
        return ""
    return next(filter(None, (text_at(tree, *path) for path in _PATHS)), "")
