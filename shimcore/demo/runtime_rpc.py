"""How the stand-in's methods are served over grpc.aio, and the record of what arrived."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from shimcore.demo.runtime_faults import StatusError
from shimcore.runtime.errors import StatusCode

Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"
Method: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"
Metadata = tuple[tuple[str, str | bytes], ...]

Unary = Callable[[bytes], Awaitable[bytes]]
Streaming = Callable[[bytes, Metadata], AsyncIterator[bytes]]

INITIAL_METADATA: Metadata = (("x-stand-in", "hello"), ("x-stand-in-bin", b"\x00\xff"))
TRAILING_METADATA: Metadata = (("x-stand-in-trailer", "bye"), ("x-trailer-bin", b"\xff\x00"))
"""Sent with every stream and echo, for those who test that metadata is kept."""

_GRPC_STATUS = {status.value[0]: status for status in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """A call as it arrived; requests carry credentials, so `repr` leaves them out.

    `request` is the message as it was on the wire, of a stream of requests the first one.
    """

    method: str
    request: bytes = field(repr=False)
    metadata: Metadata = field(repr=False)


@dataclass(slots=True)
class Journal:
    """Every call that arrived, and the paths of those that the client gave up."""

    enabled: bool = True
    latency_s: float = 0.0
    calls: list[RecordedCall] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)

    def arrived(self, path: str, request: bytes, metadata: Metadata) -> None:
        """Adds a call, unless the journal is off."""
        if self.enabled:
            self.calls.append(RecordedCall(path, request, metadata))

    @asynccontextmanager
    async def answering(self, path: str, context: Context) -> AsyncIterator[None]:
        """Holds the answer back for the latency, and turns faults into statuses."""
        try:
            if self.latency_s:
                await asyncio.sleep(self.latency_s)
            yield
        except StatusError as fault:
            await context.abort(_GRPC_STATUS[int(fault.code)], fault.details, fault.trailers)
        except DecodeError as error:
            await context.abort(grpc.StatusCode.INTERNAL, f"cannot parse the request: {error}")
        except asyncio.CancelledError:
            self.cancelled.append(path)
            raise


def unary_method(path: str, metadata: Metadata, journal: Journal, handler: Unary | None) -> Method:
    """A method of one request and one response; without a handler UNIMPLEMENTED."""

    async def behaviour(request: bytes, context: Context) -> bytes:
        journal.arrived(path, request, metadata)
        async with journal.answering(path, context):
            if handler is None:
                raise StatusError(StatusCode.UNIMPLEMENTED, f"unknown method {path}")
            if handler is echo:
                await context.send_initial_metadata(INITIAL_METADATA)
                context.set_trailing_metadata(TRAILING_METADATA)
            return await handler(request)
        raise AssertionError  # `answering` swallows nothing

    return grpc.unary_unary_rpc_method_handler(behaviour)


def streaming_method(
    path: str, metadata: Metadata, journal: Journal, messages: Streaming
) -> Method:
    """A method of one request and a stream of responses."""

    async def behaviour(request: bytes, context: Context) -> AsyncIterator[bytes]:
        journal.arrived(path, request, metadata)
        async with journal.answering(path, context):
            await context.send_initial_metadata(INITIAL_METADATA)
            context.set_trailing_metadata(TRAILING_METADATA)
            async for message in messages(request, metadata):
                yield message

    return grpc.unary_stream_rpc_method_handler(behaviour)


def chat_method(path: str, metadata: Metadata, journal: Journal) -> Method:
    """A method that answers each message of a stream with itself."""

    async def behaviour(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        first = True
        async with journal.answering(path, context):
            async for request in requests:
                if first:
                    journal.arrived(path, request, metadata)
                    first = False
                yield request

    return grpc.stream_stream_rpc_method_handler(behaviour)


async def echo(request: bytes) -> bytes:
    """The request."""
    return request


async def counted(request: bytes, metadata: Metadata) -> AsyncIterator[bytes]:
    """`0:request`, `1:request`, …: as many as the metadata `count` says, or else 3."""
    count = int(dict(metadata).get("count", "3"))
    for index in range(count):
        yield f"{index}:".encode() + request
