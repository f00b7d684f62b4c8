"""Whether the shim gives the runtime's own answers."""

from __future__ import annotations

import asyncio

from shimcore.errors import RuntimeUnavailableError
from shimcore.runtime.channel import Channel
from shimcore.runtime.errors import RuntimeCallError

ASK_S = 3.0
LOOKS = 3
"""A container that starts between two questions makes two answers differ."""
# Asked by nobody else all the time, so that kubelet's calls can be told from these.
_METHODS = (
    "/runtime.v1.RuntimeService/Version",
    "/runtime.v1.RuntimeService/ListContainers",
    "/runtime.v1.ImageService/ListImages",
)


async def differing(shim_socket: str, runtime_socket: str) -> str:
    """What the shim says otherwise than the runtime; "" where nothing is."""
    shim, runtime = Channel(shim_socket), Channel(runtime_socket)
    try:
        for method in _METHODS:
            if why := await _differing(shim, runtime, method):
                return f"{method.rpartition('/')[2]} through the shim: {why}"
    finally:
        await asyncio.gather(shim.aclose(), runtime.aclose())
    return ""


async def _differing(shim: Channel, runtime: Channel, method: str) -> str:
    why = ""
    for _ in range(LOOKS):
        theirs = await _answer(runtime, method)
        ours = await _answer(shim, method)
        if isinstance(theirs, str):
            return ""  # the runtime's fault, which is seen elsewhere
        if isinstance(ours, str):
            why = ours
        # Go writes maps in any order: the bytes are the same, their order is not.
        elif sorted(ours) == sorted(theirs):
            return ""
        else:
            why = f"{len(ours)} bytes that are not the runtime's {len(theirs)}"
        await asyncio.sleep(0.2)
    return why


async def _answer(channel: Channel, method: str) -> bytes | str:
    try:
        return await channel.call(method, b"", timeout_s=ASK_S)
    except (RuntimeUnavailableError, RuntimeCallError) as error:
        return str(error)
