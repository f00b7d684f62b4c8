"""A plain pass-through on grpc.aio: every message as bytes, calls by a generic handler.

`python -m benchmarks.proxies.grpcio SOCKET RUNTIME_SOCKET`
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

from benchmarks.proxies import until_terminated

_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.default_authority", "localhost"),
)
_STREAMS = ("/GetContainerEvents",)
_RESERVED = ("user-agent",)


class _PassThrough(grpc.GenericRpcHandler):
    def __init__(self, upstream: grpc.aio.Channel) -> None:
        self._upstream = upstream
        self._handlers: dict[str, Any] = {}

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        handler = self._handlers.get(details.method)
        if handler is None:
            handler = self._handlers[details.method] = self._handler(details.method)
        return handler

    def _handler(self, method: str) -> Any:
        if method.endswith(_STREAMS):
            streaming: Any = self._upstream.unary_stream(method)

            async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
                async for message in streaming(request, metadata=_metadata(context)):
                    yield message

            return grpc.unary_stream_rpc_method_handler(stream)
        calling: Any = self._upstream.unary_unary(method)

        async def call(request: bytes, context: Any) -> bytes:
            try:
                answer: bytes = await calling(request, metadata=_metadata(context))
            except grpc.aio.AioRpcError as error:
                await context.abort(error.code(), error.details())
            return answer

        return grpc.unary_unary_rpc_method_handler(call)


def _metadata(context: Any) -> tuple[tuple[str, str | bytes], ...]:
    return tuple(pair for pair in context.invocation_metadata() if pair[0] not in _RESERVED)


async def _serve(socket: str, runtime: str) -> None:
    async with grpc.aio.insecure_channel(f"unix:{runtime}", options=_OPTIONS) as upstream:
        server = grpc.aio.server(options=_OPTIONS)
        server.add_generic_rpc_handlers((_PassThrough(upstream),))
        server.add_insecure_port(f"unix:{socket}")
        await server.start()
        await until_terminated()
        await server.stop(None)


if __name__ == "__main__":
    asyncio.run(_serve(*sys.argv[1:3]))
