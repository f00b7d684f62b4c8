"""Calls of any method on a unix socket."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio

IMAGES = "/runtime.v1.ImageService/"
RUNTIME = "/runtime.v1.RuntimeService/"


def open_channel(path: str) -> grpc.aio.Channel:
    """A connection of its own, that is made again within half a second."""
    return grpc.aio.insecure_channel(
        f"unix:{path}",
        options=(
            ("grpc.default_authority", "localhost"),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 500),
        ),
    )


async def unary(
    channel: grpc.aio.Channel, path: str, request: bytes, timeout_s: float = 10
) -> bytes:
    """The answer to one message, as it came."""
    call: Any = channel.unary_unary(path)
    answer: bytes = await call(request, timeout=timeout_s)
    return answer
