"""A real gRPC client whose calls are answered by the relay, with a runtime that says nothing."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import grpc
import pytest

from shimcore.heldcall import Answer, Decision, HeldCall
from shimcore.relay import frames
from shimcore.relay.events import Metadata
from shimcore.relay.route import Route
from shimcore.relay.server import Relay
from tests.support import raw

PULL = "/runtime.v1.ImageService/PullImage"
SIZES = (0, 80, 80, 3 << 20, 80)


class Given:
    """A held call that gets its answer a moment later."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    async def decide(self) -> Decision:
        await asyncio.sleep(0.01)
        return self._answer

    def finished(self, status: int, empty: bool, message: str) -> None:
        raise AssertionError("the call has not gone on")


def given(message: bytes) -> tuple[HeldCall, Decision | None]:
    """A call whose answer is its request, turned round; one of 80 bytes has it at once."""
    answer = Answer(message[::-1])
    return Given(answer), answer if len(message) == 80 else None


@pytest.mark.parametrize("rude", [False, True], ids=["end", "reset"])
async def test_a_runtime_that_is_gone_before_its_answer(tmp_path: Path, rude: bool) -> None:
    """A server that stops goes when its last stream is reset; the client gets all of it."""

    async def stops(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw.opening()[len(frames.PREFACE) :])
        writer.write(frames.frame(frames.SETTINGS, frames.ACK, 0))
        await reader.readuntil(bytes((0, 0, 4, frames.RST_STREAM)))
        if rude:
            writer.transport.abort()
        writer.close()

    def open_call(
        path: bytes, message: bytes, timeout_s: float | None, metadata: Metadata
    ) -> tuple[HeldCall, Decision | None]:
        return given(message)

    runtime, shim = str(tmp_path / "runtime.sock"), str(tmp_path / "shim.sock")
    relay = Relay(lambda: runtime, lambda path: Route.OPEN, open_call)
    async with (
        await asyncio.start_unix_server(stops, runtime),
        await asyncio.get_running_loop().create_unix_server(relay.accept, shim),
        raw.connected(shim) as client,
    ):
        await raw.send(client, raw.opening(10) + raw.call(1, PULL, b"a" * 40 + b"b" * 40))
        got = await raw.read_until(client, b"b" * 5)
        await asyncio.sleep(0.1)
        await raw.send(client, frames.window_update(1, 100))
        got += await raw.read_until(client, b"grpc-status\x010")
        assert b"b" * 35 + b"a" * 40 in got
        assert not await raw.read_until(client, b"nothing more")
        client.close()
        async with asyncio.timeout(10):
            while relay.connections:
                await asyncio.sleep(0.01)


async def test_a_runtime_that_goes_when_it_has_answered(tmp_path: Path) -> None:
    """All that it has said reaches a client that reads slowly, and gives credit as it reads."""
    size = 800_000

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw.opening()[len(frames.PREFACE) :])
        writer.write(frames.frame(frames.SETTINGS, frames.ACK, 0))
        await reader.readuntil(b"ASK")
        fields = b"\x88" + raw.literal("content-type", "application/grpc")
        writer.write(frames.frame(frames.HEADERS, frames.END_HEADERS, 1, fields))
        content = b"\0" + size.to_bytes(4, "big") + bytes(size)
        for start in range(0, len(content), 16_384):
            writer.write(frames.frame(frames.DATA, 0, 1, content[start : start + 16_384]))
        ended = frames.END_HEADERS | frames.END_STREAM
        writer.write(frames.frame(frames.HEADERS, ended, 1, raw.literal("grpc-status", "0")))
        await writer.drain()
        writer.close()

    def none(*_: object) -> tuple[HeldCall, Decision | None]:
        raise AssertionError("nothing is held")

    runtime, shim = str(tmp_path / "runtime.sock"), str(tmp_path / "shim.sock")
    relay = Relay(lambda: runtime, lambda path: Route.PASS, none)
    async with (
        await asyncio.start_unix_server(answers, runtime),
        await asyncio.get_running_loop().create_unix_server(relay.accept, shim),
        raw.connected(shim) as client,
    ):
        await raw.send(client, raw.opening(raw.LARGEST_WINDOW) + raw.call(1, "/x/List", b"ASK"))
        got, loop = b"", asyncio.get_running_loop()
        with contextlib.suppress(ConnectionResetError):  # its last frames were not read
            async with asyncio.timeout(20):
                while data := await loop.sock_recv(client, 16_384):
                    got += data
                    with contextlib.suppress(OSError):
                        await raw.send(client, frames.window_update(0, len(data)))
                    await asyncio.sleep(0.005)
        assert len(got) > size
        assert got.endswith(b"\x0bgrpc-status\x010")


async def test_a_client_gets_its_answers(tmp_path: Path) -> None:
    """Of any size, many at once, with its metadata told; the runtime sees streams reset."""
    resets = 0
    told: list[Metadata] = []

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal resets
        writer.write(raw.opening(raw.LARGEST_WINDOW)[len(frames.PREFACE) :])
        await reader.readexactly(len(frames.PREFACE))
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = await reader.readexactly(frames.FRAME_HEADER_BYTES)
                high, low, kind, flags, _ = frames.FRAME_HEADER.unpack(head)
                await reader.readexactly(high << 8 | low)
                resets += kind == frames.RST_STREAM
                assert kind != frames.PING
                if kind == frames.SETTINGS and not flags & frames.ACK:
                    writer.write(frames.frame(frames.SETTINGS, frames.ACK, 0))
        writer.close()

    def open_call(
        path: bytes, message: bytes, timeout_s: float | None, metadata: Metadata
    ) -> tuple[HeldCall, Decision | None]:
        told.append(metadata)
        return given(message)

    runtime, shim = str(tmp_path / "runtime.sock"), str(tmp_path / "shim.sock")
    relay = Relay(
        lambda: runtime,
        lambda path: Route.OPEN if path == PULL.encode() else Route.PASS,
        open_call,
    )
    loop = asyncio.get_running_loop()
    async with (
        await asyncio.start_unix_server(silent, runtime),
        await loop.create_unix_server(relay.accept, shim),
        grpc.aio.insecure_channel(
            f"unix:{shim}", options=[("grpc.max_receive_message_length", -1)]
        ) as channel,
    ):
        pull: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(PULL)
        requests = [
            bytes([n]) * (size // 2) + bytes(size - size // 2) for n, size in enumerate(SIZES)
        ]
        async with asyncio.timeout(30):
            for _ in range(5):
                calls = [pull(each, metadata=(("traceparent", "00-1"),)) for each in requests]
                assert [await call for call in calls] == [each[::-1] for each in requests]
        assert set(told) == {((b"traceparent", b"00-1"),)}
        (pair,) = relay.connections
        assert pair._core.replies.windows[2] == 0
        assert relay.request_room.budget.used == relay.pull_room.budget.used == 0
        await relay.drain(1)
    assert resets == 5 * len(SIZES)
