"""What a peer cannot make the shim keep: a real `serve` between peers that never stop asking."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import grpc
import grpc.aio
import pytest

from shimcore.heldcall import AS_IT_CAME, Decision, HeldCall
from shimcore.relay import frames
from shimcore.relay.events import Metadata
from shimcore.relay.limits import PROCESS_REQUEST_BYTES
from shimcore.relay.messages import write_message
from shimcore.relay.route import Route
from shimcore.relay.server import Relay
from tests.support import raw
from tests.support.attacks import packed as packed_message
from tests.support.attacks import pull_request
from tests.support.polling import until
from tests.support.scripted_runtime import ScriptedRuntime
from tests.support.serving import ServeProcess, serving

WANTED_BYTES = 600 << 20
STATUS = "/runtime.v1.ImageService/ImageStatus"
PULL = "/runtime.v1.ImageService/PullImage"
CREATE = "/runtime.v1.RuntimeService/CreateContainer"
PASSED = "/x.Y/Stream"
CHUNK_BYTES = 16_384
# A direction: two send buffers, two chunks, and what the kernel's sockets take.
BUFFERED_BYTES = 2 << 20
SPARE_MIB = 8.0
QUIET_S = 1.5

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def before(folder: Path, serve: Serve) -> AsyncIterator[ServeProcess]:
    """A shim in front of a runtime that is a function of one connection."""
    tasks: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await serve(reader, writer)
        writer.transport.abort()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        tasks.add(asyncio.get_running_loop().create_task(one(reader, writer)))

    path = folder / "runtime.sock"
    server = await asyncio.start_unix_server(accept, path, limit=CHUNK_BYTES)
    try:
        async with serving(folder, path, force=True) as shim:
            yield shim
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


def rss_mib(shim: ServeProcess) -> float:
    """Resident memory of the shim."""
    assert shim.process is not None
    pages = int(Path(f"/proc/{shim.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / (1 << 20)


async def push(client: socket.socket, data: bytes, wanted: int) -> int:
    """Bytes sent until nothing was taken for QUIET_S; `data` over and over, `wanted` at most."""
    loop = asyncio.get_running_loop()
    sent = 0
    while sent < wanted:
        try:
            async with asyncio.timeout(QUIET_S):
                await loop.sock_sendall(client, data)
        except (TimeoutError, ConnectionError):
            break
        sent += len(data)
    return sent


async def read(client: socket.socket) -> bytes:
    """The next bytes."""
    return await asyncio.get_running_loop().sock_recv(client, 1 << 20)


@pytest.fixture
def no_collections() -> Iterator[None]:
    """Only what nothing refers to is freed."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def test_a_connection_that_is_over(tmp_path: Path, no_collections: None) -> None:
    """It is freed at once: a thousand that waited for a garbage collection would be 13 MiB."""

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw.opening()[len(frames.PREFACE) :])
        await reader.read(-1)
        writer.close()

    def open_call(
        path: bytes, message: bytes, timeout_s: float | None, metadata: Metadata
    ) -> tuple[HeldCall, Decision]:
        return AsItCame(), AS_IT_CAME

    runtime, shim = str(tmp_path / "runtime.sock"), str(tmp_path / "shim.sock")
    relay = Relay(
        lambda: runtime,
        lambda path: Route.OPEN if path == PULL.encode() else Route.PASS,
        open_call,
    )
    loop = asyncio.get_running_loop()
    async with (
        await asyncio.start_unix_server(answers, runtime),
        await loop.create_unix_server(relay.accept, shim),
    ):
        async with raw.connected(shim) as client:
            await raw.send(
                client, raw.opening() + raw.call(1, PULL, b"") + raw.call(3, PASSED, b"")
            )
            await read(client)
            (pair,) = relay.connections
            over = weakref.ref(pair)
            del pair
        await until(lambda: not relay.connections, "the connection does not end")
        await asyncio.sleep(0.01)
        assert over() is None


class AsItCame:
    """A held call that goes on at once."""

    async def decide(self) -> Decision:
        return AS_IT_CAME

    def finished(self, status: int, empty: bool, message: str) -> None:
        """Nothing is learnt from it."""


async def test_a_reader_that_does_not_read(tmp_path: Path) -> None:
    """600 MB wanted and not read stay with the runtime, and come once they are read."""
    sent = 0
    data = frames.frame(frames.DATA, 0, 1, bytes(CHUNK_BYTES))

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readexactly(len(frames.PREFACE))
        writer.write(frames.frame(frames.SETTINGS, 0, 0))
        while sent < WANTED_BYTES:
            writer.write(data)
            await writer.drain()
            sent += len(data)
        writer.write(frames.frame(frames.PING, 0, 0, b" the end"))
        await writer.drain()
        await reader.read(-1)

    async with before(tmp_path, flood) as shim, raw.connected(shim.socket) as client:
        start = rss_mib(shim)
        await raw.send(client, raw.opening(raw.LARGEST_WINDOW) + raw.call(1, PASSED, b""))
        await until(lambda: sent > CHUNK_BYTES, "the runtime's answer does not come")
        await asyncio.sleep(QUIET_S)
        assert sent < BUFFERED_BYTES
        assert rss_mib(shim) < start + SPARE_MIB
        got = 0
        last = b""
        async with asyncio.timeout(60):
            while not last.endswith(b"the end"):
                last = await read(client)
                assert last
                got += len(last)
        assert got > WANTED_BYTES
        assert rss_mib(shim) < start + SPARE_MIB


async def test_a_runtime_that_does_not_read(tmp_path: Path) -> None:
    """What a client sends to a runtime that does not read stays with the client."""
    ended = asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw.opening(raw.LARGEST_WINDOW)[len(frames.PREFACE) :])
        await ended.wait()

    async with before(tmp_path, deaf) as shim, raw.connected(shim.socket) as client:
        start = rss_mib(shim)
        await raw.send(client, raw.opening() + raw.headers(1, PASSED))
        data = frames.frame(frames.DATA, 0, 1, bytes(CHUNK_BYTES))
        assert await push(client, data, WANTED_BYTES) < BUFFERED_BYTES
        assert rss_mib(shim) < start + SPARE_MIB
        ended.set()


def request(size: int) -> bytes:
    """PullImageRequest of an image, and a field that nobody knows with `size` bytes."""
    return pull_request("nowhere.invalid/x:1", size)


UNFINISHED = b"\0" + (4 << 20).to_bytes(4, "big")
# relay/limits.py: requests that are held; or those that have no answer, inflated and parsed.
HELD_MIB = {False: 25 * 1.2 + SPARE_MIB, True: 2 * 8.25 + 2 * 9 + SPARE_MIB}


@pytest.mark.parametrize("packed", [False, True], ids=["unfinished", "inflating"])
async def test_requests_that_are_held(packed: bool, tmp_path: Path) -> None:
    """Image requests that never end, or that inflate a thousandfold, are held up to a limit."""
    ended = asyncio.Event()

    async def generous(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw.opening(raw.LARGEST_WINDOW)[len(frames.PREFACE) :])
        while not ended.is_set() and await reader.read(CHUNK_BYTES):
            pass

    async with before(tmp_path, generous) as shim, raw.connected(shim.socket) as client:
        start = highest = rss_mib(shim)
        await raw.send(client, raw.opening())
        await asyncio.sleep(0.3)  # until the runtime has opened its window
        content = packed_message(request(15 << 18)) if packed else UNFINISHED + bytes(15 << 18)
        more = {"grpc-encoding": "gzip"} if packed else {}
        for stream in range(1, 81, 2):
            asked = raw.headers(stream, PULL, more)
            for at in range(0, len(content), CHUNK_BYTES):
                part = content[at : at + CHUNK_BYTES]
                asked += frames.frame(frames.DATA, 0, stream, part)
            if await push(client, asked, 1) == 0:
                break
            highest = max(highest, rss_mib(shim))
        assert highest < start + HELD_MIB[packed]
        ended.set()


async def test_requests_without_an_answer(tmp_path: Path) -> None:
    """However many and large they are, they go on; nothing of them is kept until their answers."""
    arrived: set[int] = set()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw.opening(raw.LARGEST_WINDOW)[len(frames.PREFACE) :])
        await reader.readexactly(len(frames.PREFACE))
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = await reader.readexactly(frames.FRAME_HEADER_BYTES)
                high, low, kind, _, stream = frames.FRAME_HEADER.unpack(head)
                await reader.readexactly(high << 8 | low)
                if kind == frames.DATA and high << 8 | low == len(content):
                    arrived.add(stream)

    # An ID, which goes on at once.
    content = packed_message(pull_request("sha256:" + 64 * "a", 3_000_000))
    async with before(tmp_path, mute) as shim, raw.connected(shim.socket) as client:
        await raw.send(client, raw.opening())
        await asyncio.sleep(0.3)  # until the runtime has opened its window
        start = rss_mib(shim)
        for stream in range(1, 41, 2):
            data = frames.frame(frames.DATA, frames.END_STREAM, stream, content)
            await raw.send(client, raw.headers(stream, STATUS, {"grpc-encoding": "gzip"}) + data)
            await until(partial(arrived.__contains__, stream), f"stream {stream} has not arrived")
        assert rss_mib(shim) < start + 2 * SPARE_MIB


class Undecided:
    """Held calls that are decided on when they may be; `open` is their requests' bytes."""

    def __init__(self) -> None:
        self.may = asyncio.Event()
        self.open = 0

    def open_call(
        self, path: bytes, message: bytes, timeout_s: float | None, metadata: Metadata
    ) -> tuple[HeldCall, Decision | None]:
        self.open += len(message)
        return UndecidedCall(self, len(message)), None


class UndecidedCall(AsItCame):
    def __init__(self, all_: Undecided, size: int) -> None:
        self._all, self._size = all_, size

    async def decide(self) -> Decision:
        try:
            await self._all.may.wait()
        finally:
            self._all.open -= self._size
        return AS_IT_CAME


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("path", [PULL, CREATE])
async def test_requests_that_are_decided_on(path: str, compressed: bool, tmp_path: Path) -> None:
    """Those that there is no room for stay held and wait: none is refused, and none is lost."""
    got: list[int] = []

    async def takes(message: bytes) -> bytes:
        got.append(len(message))
        return b""

    runtime, shim = str(tmp_path / "runtime.sock"), str(tmp_path / "shim.sock")
    undecided, sizes = Undecided(), [600_000 + number for number in range(21)]
    relay = Relay(lambda: runtime, lambda path: Route.LONG, undecided.open_call)
    if path == CREATE:
        relay.route = lambda path: Route.OPEN
    how = grpc.Compression.Gzip if compressed else grpc.Compression.NoCompression
    own_connection = [("grpc.use_local_subchannel_pool", 1)]
    async with (
        ScriptedRuntime(runtime, record=False) as stand_in,
        await asyncio.get_running_loop().create_unix_server(relay.accept, shim),
        contextlib.AsyncExitStack() as stack,
    ):
        stand_in.overrides[path.removeprefix("/runtime.v1.")] = takes
        calls = []
        for number in range(3):
            channel = await stack.enter_async_context(
                grpc.aio.insecure_channel(f"unix:{shim}", own_connection, compression=how)
            )
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
            calls += [call(bytes(size), timeout=30) for size in sizes[number::3]]
        room = relay.pull_room if path == PULL else relay.request_room
        limit = PROCESS_REQUEST_BYTES + 3 * room.budget.share

        def full() -> bool:
            return limit - 3 * 600_000 < undecided.open and bool(room.waiting)

        await until(full, "what may be decided on has not come")
        await asyncio.sleep(0.2)  # nor does more
        assert undecided.open <= limit
        calls[0].cancel()
        calls[20].cancel()
        await asyncio.sleep(0.5)
        await until(full, "nothing came in the place of what was cancelled")
        assert undecided.open <= limit
        undecided.may.set()
        assert await asyncio.gather(*calls[1:20]) == [b""] * 19
        assert sorted(got) == sizes[1:20]
        assert (undecided.open, room.budget.used, room.waiting) == (0, 0, {})
        await relay.drain(1)


def _pings() -> bytes:
    return frames.frame(frames.PING, 0, 0, bytes(8)) * 1000


def _padding() -> bytes:
    return frames.frame(frames.DATA, frames.PADDED, 1, b"\x03" + bytes(3)) * 1000


@pytest.mark.parametrize("runtime_is_there", [False, True], ids=["away", "there"])
async def test_answers_that_are_not_taken(runtime_is_there: bool, tmp_path: Path) -> None:
    """A client that makes the shim itself answer, and does not read, is not read any more."""
    ended = asyncio.Event()

    async def generous(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw.opening(raw.LARGEST_WINDOW)[len(frames.PREFACE) :])
        while not ended.is_set() and await reader.read(CHUNK_BYTES):
            pass

    async with before(tmp_path, generous) as shim:
        if not runtime_is_there:
            (tmp_path / "runtime.sock").unlink()
        async with raw.connected(shim.socket) as client:
            start = rss_mib(shim)
            flood = _pings()
            await raw.send(client, raw.opening())
            if runtime_is_there:
                flood = _padding()  # each frame is credited back at once
                await raw.send(client, raw.headers(1, PULL))
            assert await push(client, flood, WANTED_BYTES // 4) < 2 * BUFFERED_BYTES
            assert rss_mib(shim) < start + SPARE_MIB
            ended.set()


async def test_frames_that_wait_behind_a_window(tmp_path: Path) -> None:
    """Frames that no window counts cannot pile up behind DATA that waits for one."""
    ended = asyncio.Event()

    async def stingy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Windows of a hundred bytes for streams: the request does not fit.
        window = (4).to_bytes(2, "big") + (100).to_bytes(4, "big")
        writer.write(frames.frame(frames.SETTINGS, 0, 0, window))
        while not ended.is_set() and await reader.read(CHUNK_BYTES):
            pass

    async with before(tmp_path, stingy) as shim, raw.connected(shim.socket) as client:
        start = rss_mib(shim)
        await raw.send(client, raw.opening() + frames.frame(frames.SETTINGS, frames.ACK, 0))
        await asyncio.sleep(0.3)
        asked = frames.frame(frames.DATA, 0, 1, write_message(request(5000)))
        await raw.send(client, raw.headers(1, PULL) + asked)
        await asyncio.sleep(QUIET_S)  # until it is decided on
        # Trailers without an end, again and again: each block waits for its turn.
        block = frames.frame(frames.HEADERS, frames.END_HEADERS, 1, b"\x88")
        assert await push(client, block * 1000, 64 << 20) < 8 << 20
        assert rss_mib(shim) < start + 4 * SPARE_MIB
        ended.set()
