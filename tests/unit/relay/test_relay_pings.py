"""PINGs go hop by hop: upstream counts those that it gets, and hangs up after a few."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NoReturn

import pytest

from shimcore.relay import frames, proxy_connection
from shimcore.relay.limits import OWN_FRAMES
from shimcore.relay.route import Route
from shimcore.relay.server import Relay
from tests.support import raw
from tests.support.wire import OTHER, RESPONSE, TRAILERS, Frame, Wire

PING = frames.frame(frames.PING, 0, 0, b"12345678")
PONG = frames.frame(frames.PING, frames.ACK, 0, b"12345678")


@pytest.mark.parametrize("cut", [1, 9, 12, 17])
def test_the_clients_are_answered_here(cut: int) -> None:
    """With their own eight bytes, however they are cut; upstream hears nothing of them."""
    wire = Wire()
    wire.client(PING[:cut])
    wire.client(PING[cut:])
    assert wire.to_client() == [Frame(frames.PING, frames.ACK, 0, b"12345678")]
    assert not wire.to_upstream()


@pytest.mark.parametrize(
    "odd",
    [
        PONG,
        frames.frame(frames.PING, 0, 1, b"12345678"),
        frames.frame(frames.PING, 0, 0, b"1234567"),
        frames.frame(frames.PING, 0, 0, b"123456789"),
        frames.frame(frames.PING, frames.ACK, 0, b""),
    ],
    ids=["ack", "stream", "short", "long", "short ack"],
)
def test_acks_and_malformed_ones_go_on(odd: bytes) -> None:
    """They are upstream's to judge."""
    wire = Wire()
    wire.client(odd)
    assert wire.core.take_to_upstream() == [odd]
    assert not wire.to_client()


def test_upstreams_go_on_to_the_client() -> None:
    """And the client's ACKs go back, verbatim."""
    wire = Wire()
    wire.upstream(PING)
    assert wire.core.take_to_client() == [PING]
    wire.client(PONG)
    assert wire.core.take_to_upstream() == [PONG]


def test_nothing_is_answered_before_the_servers_settings() -> None:
    """They are the first that a client may hear of a server (§3.4)."""
    wire = Wire(shaken=False)
    wire.client(frames.PREFACE + frames.frame(frames.SETTINGS, 0, 0) + PING)
    assert not wire.core.take_to_client()
    assert [frame.kind for frame in wire.to_upstream()] == [frames.SETTINGS]
    wire.upstream(frames.frame(frames.SETTINGS, 0, 0))
    assert [frame.kind for frame in wire.to_client()] == [frames.SETTINGS, frames.PING]


def test_an_ack_waits_for_the_frame_and_the_block_that_are_on_their_way() -> None:
    """It stands between two frames, and never inside a header block."""
    wire = Wire()
    wire.open(1, OTHER)
    block = wire.response_encoder.encode(RESPONSE)
    first = frames.frame(frames.HEADERS, 0, 1, block[:3])
    data = frames.frame(frames.DATA, 0, 99, bytes(10))
    wire.upstream(data[:12])
    wire.client(PING)
    wire.upstream(data[12:] + first)
    wire.client(PING)
    wire.upstream(frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, block[3:]))
    assert [frame.kind for frame in wire.to_client()] == [0, 6, 1, 9, 6]


def test_acks_that_cannot_go_are_bounded() -> None:
    """While upstream is inside a frame, a client that goes on is not read before long."""
    wire = Wire()
    wire.upstream(frames.frame(frames.DATA, 0, 99, bytes(100))[:50])
    seen = []
    wire.client(PING * OWN_FRAMES)
    seen.append(wire.core.backpressured)
    wire.client(PING)
    seen.append(wire.core.backpressured)
    wire.upstream(bytes(59))
    seen.append(wire.core.backpressured)
    assert seen == [False, True, False]


def test_a_server_stops_gracefully_while_a_call_is_held() -> None:
    """grpc-go: GOAWAY of 2^31-1 and a PING; after its ACK the true GOAWAY; then calls end."""
    wire = Wire()
    wire.call(1)
    wire.call(3)
    wire.to_upstream()
    drain = frames.frame(frames.PING, 0, 0, b"\1\6\1\x08\0\3\3\x09")
    first = frames.goaway(frames.STREAM_MASK, 0) + drain
    wire.upstream(first)
    assert wire.core.take_to_client() == [first]
    ack = frames.frame(frames.PING, frames.ACK, 0, drain[9:])
    wire.client(ack)
    assert wire.core.take_to_upstream() == [ack]
    wire.upstream(frames.goaway(3, 0))
    assert [frame.kind for frame in wire.to_client()] == [frames.GOAWAY]
    assert wire.core.answer(1, b"x")
    assert wire.core.forward(3, None)
    assert [(f.kind, f.stream) for f in wire.to_client() if f.stream] == [(1, 1), (0, 1), (1, 1)]
    wire.headers(3, [*RESPONSE, *TRAILERS], end=True)
    assert [(f.kind, f.stream) for f in wire.to_client()] == [(1, 3)]
    assert not wire.core.live


ECHO = "/x/Echo"


class Sides:
    """A relay between two raw sockets: the client's, and the runtime's as its server sees it."""

    def __init__(self, relay: Relay, client: socket.socket, runtime: Runtime) -> None:
        self.relay, self.client, self.runtime = relay, client, runtime

    async def nothing_comes(self) -> None:
        """To the client, for a moment."""
        with pytest.raises(TimeoutError):
            await raw.read_until(self.client, b"anything", 0.05)


Runtime = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def between(tmp_path: Path) -> AsyncIterator[Sides]:
    """Both prefaces have gone through."""
    shim, place = str(tmp_path / "shim.sock"), str(tmp_path / "runtime.sock")
    made: asyncio.Future[Runtime] = asyncio.get_running_loop().create_future()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.set_result((reader, writer))

    def never(*_: object) -> NoReturn:
        raise AssertionError("no call is opened")

    relay = Relay(lambda: place, lambda _: Route.PASS, never)
    async with (
        await asyncio.start_unix_server(accept, place),
        await asyncio.get_running_loop().create_unix_server(relay.accept, shim),
        raw.connected(shim) as client,
    ):
        await raw.send(client, raw.opening())
        reader, writer = await made
        settings = frames.frame(frames.SETTINGS, 0, 0)
        writer.write(settings)
        await raw.read_until(client, settings)
        await reader.readexactly(len(raw.opening()))
        yield Sides(relay, client, (reader, writer))
        writer.close()
        client.close()
        async with asyncio.timeout(10):
            while relay.connections:
                await asyncio.sleep(0.01)


async def test_one_beside_a_request_is_answered_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client is woken once, and not for the answer to its PING alone."""
    monkeypatch.setattr(proxy_connection, "ACK_S", 60)
    async with between(tmp_path) as sides:
        request = raw.call(1, ECHO, b"x")
        await raw.send(sides.client, request + PING)
        reader, writer = sides.runtime
        assert await reader.readexactly(len(request)) == request
        await sides.nothing_comes()
        reply = frames.frame(frames.DATA, 0, 1, b"a reply")
        writer.write(reply)
        assert await asyncio.get_running_loop().sock_recv(sides.client, 4096) == PONG + reply


async def test_a_reply_that_takes_long_is_not_waited_for(tmp_path: Path) -> None:
    """The answer to the PING goes alone, soon; and so does the next one."""
    async with between(tmp_path) as sides:
        for stream in (1, 3):
            await raw.send(sides.client, raw.call(stream, ECHO, b"x") + PING)
            assert await raw.read_until(sides.client, PONG, 5) == PONG


@pytest.mark.parametrize(
    ("sent", "answers"),
    [
        ([PING], PONG),
        ([raw.call(1, ECHO, b"x"), PING], PONG),
        ([raw.call(1, ECHO, b"x") + PING + PING], PONG * 2),
        ([raw.call(1, ECHO, b"x") + PING, PING], PONG * 2),
        ([raw.call(1, ECHO, b"x") + PING, raw.call(3, ECHO, b"x") + PING], PONG * 2),
        ([frames.window_update(0, 1) + PING], PONG),
    ],
    ids=["alone", "behind a request", "two", "a second", "with another request", "no call"],
)
async def test_any_other_is_answered_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: list[bytes], answers: bytes
) -> None:
    """One at the most waits, and only beside what brought a call on its way."""
    monkeypatch.setattr(proxy_connection, "ACK_S", 60)
    async with between(tmp_path) as sides:
        reader, _ = sides.runtime
        for data in sent:
            await raw.send(sides.client, data)
            relayed = data.replace(PING, b"")
            assert await reader.readexactly(len(relayed)) == relayed
        assert await raw.read_until(sides.client, answers, 5) == answers


async def test_what_is_not_an_answer_to_a_ping_does_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GOAWAY to a client whose PING waits takes it along."""
    monkeypatch.setattr(proxy_connection, "ACK_S", 60)
    async with between(tmp_path) as sides:
        await raw.send(sides.client, raw.call(1, ECHO, b"x") + PING)
        await sides.runtime[0].readexactly(len(raw.call(1, ECHO, b"x")))
        (connection,) = sides.relay.connections
        connection.leave()
        goaway = frames.goaway(frames.STREAM_MASK, frames.NO_ERROR)
        assert await raw.read_until(sides.client, goaway, 5) == PONG + goaway


def test_what_waits_for_a_reply_is_one_answer_to_a_ping() -> None:
    """With a call under way, and nothing else beside it."""
    wire = Wire()
    wire.client(PING)
    seen = [wire.core.only_an_ack]
    wire.open(1, OTHER)
    seen.append(wire.core.only_an_ack)
    wire.client(PING)
    seen.append(wire.core.only_an_ack)
    wire.to_client()
    wire.upstream(frames.frame(frames.DATA, 0, 1, b"x"))
    seen.append(wire.core.only_an_ack)
    assert seen == [False, True, False, False]
