"""What one peer can make the connection core keep is bounded."""

from __future__ import annotations

import gzip

import pytest

from shimcore.errors import FrameError
from shimcore.relay import frames
from shimcore.relay.budget import Budget
from shimcore.relay.connection import Connection, held_budget
from shimcore.relay.events import CallCancelled, CallReady, Notice
from shimcore.relay.limits import (
    CONNECTION_LIMIT_BYTES,
    CONNECTION_METADATA_BYTES,
    FRAME_BYTES,
    HEADER_BLOCK_BYTES,
    HEADER_FIELDS,
    HEADER_TABLE_BYTES,
    HELD_SHARE_BYTES,
    INFLATED_BYTES,
    MESSAGE_BYTES,
    METHOD_BYTES,
    OWN_FRAMES,
    QUEUED_FRAME_BYTES,
)
from shimcore.relay.route import Route
from tests.support.raw import LARGEST_WINDOW, headers, literal, opening

OPENED = "/images/Pull"


def connection(stream_window: int = LARGEST_WINDOW, budget: Budget | None = None) -> Connection:
    """Both ends have spoken, and upstream's connection window is as large as can be."""
    core = Connection(lambda path: Route.OPEN if path == OPENED.encode() else Route.PASS, budget)
    core.from_client(opening())
    settings = (4).to_bytes(2, "big") + stream_window.to_bytes(4, "big")
    settings += (5).to_bytes(2, "big") + FRAME_BYTES.to_bytes(4, "big")
    core.from_upstream(frames.frame(frames.SETTINGS, 0, 0, settings))
    core.from_upstream(frames.window_update(0, LARGEST_WINDOW - frames.DEFAULT_WINDOW))
    core.from_client(frames.frame(frames.SETTINGS, frames.ACK, 0))
    return core


def repeat(core: Connection, data: bytes, times: int) -> None:
    """The client sends the same again and again."""
    for _ in range(times):
        core.from_client(data)


def test_empty_continuations_are_not_endless() -> None:
    """Frames without content count, too (CVE-2024-27316 and its kind)."""
    core = connection()
    core.from_client(frames.frame(frames.HEADERS, 0, 1))
    with pytest.raises(FrameError) as refused:
        repeat(core, frames.frame(frames.CONTINUATION, 0, 1), HEADER_BLOCK_BYTES)
    assert refused.value.h2_code == frames.ENHANCE_YOUR_CALM


def test_header_lists_of_many_fields_end_the_connection() -> None:
    """Each field of a list is looked at in one go, however short it is."""
    core, path = connection(), literal(":path", OPENED)
    for count, ends in ((HEADER_FIELDS - 1, False), (HEADER_FIELDS, True)):
        block = path + b"\x83" * count
        frame = frames.frame(frames.HEADERS, frames.END_HEADERS, 1, block)
        if not ends:
            core.from_client(frame)
            continue
        with pytest.raises(FrameError) as refused:
            core.from_client(frame)
        assert refused.value.h2_code == frames.ENHANCE_YOUR_CALM


def test_a_long_method_is_remembered_by_its_beginning() -> None:
    """A path of a kilobyte goes on whole and is kept in part."""
    core = connection()
    path = b"/" + b"x" * 1000
    block = b"\x83\x86\x04\x7f" + bytes((len(path) - 127 & 0x7F | 0x80, len(path) - 127 >> 7))
    core.take_to_upstream()
    sent = frames.frame(frames.HEADERS, frames.END_HEADERS, 1, block + path)
    core.from_client(sent)
    assert core.take_to_upstream() == [sent]
    assert core.live == {1: path[:METHOD_BYTES]}


def test_a_table_over_the_limit_ends_the_reading() -> None:
    """The connection goes on unread when a peer uses a larger table than is kept here."""
    core = connection()
    size = (1).to_bytes(2, "big") + (2 * HEADER_TABLE_BYTES).to_bytes(4, "big")
    core.from_client(frames.frame(frames.SETTINGS, 0, 0, size))
    core.from_client(headers(1, OPENED))
    core.take_events()
    block = frames.size_update(HEADER_TABLE_BYTES) + b"\x88"
    core.from_upstream(frames.frame(frames.HEADERS, frames.END_HEADERS, 1, block))
    assert core.take_events() == []
    block = frames.size_update(HEADER_TABLE_BYTES + 1) + b"\x88"
    core.from_upstream(frames.frame(frames.HEADERS, frames.END_HEADERS, 1, block))
    assert any(isinstance(event, Notice) for event in core.take_events())


def test_what_compressed_messages_inflate_to_is_bounded() -> None:
    """The third message of 4 MiB that waits is passed on unread; one more fits after it."""
    core = connection()
    packed = gzip.compress(bytes(MESSAGE_BYTES), mtime=0)
    data = b"\x01" + len(packed).to_bytes(4, "big") + packed
    asked = {"grpc-encoding": "gzip"}

    def ask(stream: int) -> list[type]:
        core.from_client(headers(stream, OPENED, asked))
        core.from_client(frames.frame(frames.DATA, frames.END_STREAM, stream, data))
        while core.inflating:
            core.inflate()
        return [type(event) for event in core.take_events()]

    assert [ask(1), ask(3), ask(5)] == [[CallReady], [CallReady], [Notice]]
    assert core.forward(1, b"")
    assert ask(7) == [CallReady]


def packed(size: int) -> bytes:
    """A gRPC message that inflates to so many zeros."""
    body = gzip.compress(bytes(size), mtime=0)
    return b"\x01" + len(body).to_bytes(4, "big") + body


def ask_packed(core: Connection, stream: int, size: int, *, end: bool = True) -> None:
    """The client makes a call of such a message, and may leave its own side open."""
    core.from_client(headers(stream, OPENED, {"grpc-encoding": "gzip"}))
    flags = frames.END_STREAM if end else 0
    core.from_client(frames.frame(frames.DATA, flags, stream, packed(size)))


def test_a_message_inflates_a_piece_at_a_time() -> None:
    """Others have their turn in between, and a small one needs no second piece."""
    core = connection()
    ask_packed(core, 1, 10 * INFLATED_BYTES)
    pieces = 1
    while core.inflating:
        assert not core.take_events()
        core.inflate()
        pieces += 1
    assert pieces in {10, 11}
    ask_packed(core, 3, 1000)
    assert not core.inflating
    ready = [event for event in core.take_events() if isinstance(event, CallReady)]
    assert [(event.stream, len(event.message)) for event in ready] == [
        (1, 10 * INFLATED_BYTES),
        (3, 1000),
    ]


def test_a_message_that_nobody_waits_for_inflates_no_further() -> None:
    """The client has given its call up; the next one's message has its turn."""
    budget = held_budget()
    core = connection(budget=budget)
    ask_packed(core, 1, 10 * INFLATED_BYTES)
    ask_packed(core, 3, 2 * INFLATED_BYTES)
    core.from_client(frames.rst_stream(1, frames.CANCEL))
    while core.inflating:
        core.inflate()
    (ready,) = [event for event in core.take_events() if isinstance(event, CallReady)]
    assert ready.stream == 3
    assert budget.used == core.requests.held + 2 * INFLATED_BYTES
    assert core.forward(3, b"")
    assert budget.used == core.requests.held
    ask_packed(core, 5, 10 * INFLATED_BYTES)
    core.close()
    assert (bool(core.inflating), budget.used) == (False, 0)


@pytest.mark.parametrize("of_client", [True, False], ids=["trailers", "an early answer"])
def test_only_a_call_that_was_told_of_is_cancelled(of_client: bool) -> None:
    """Of two that end undecided, nobody knows the one whose message is still inflated."""
    core = connection()
    ask_packed(core, 1, 1000, end=False)
    ask_packed(core, 3, 10 * INFLATED_BYTES, end=False)
    (ready,) = core.take_events()
    assert isinstance(ready, CallReady)
    for stream in (1, 3):
        if of_client:
            block, feed = literal("x-end", "1"), core.from_client
        else:
            block, feed = b"\x88" + literal("grpc-status", "13"), core.from_upstream
        flags = frames.END_HEADERS | frames.END_STREAM
        feed(frames.frame(frames.HEADERS, flags, stream, block))
    assert core.take_events() == [CallCancelled(ready.stream)]
    core.inflate()
    assert not core.inflating
    assert not core.take_events()


@pytest.mark.parametrize("size", [MESSAGE_BYTES + 1, 200_000])
def test_a_message_that_inflates_too_far_is_refused(size: int) -> None:
    """Further than any real one does, or than all connections may: the runtime gets none of it."""
    budget = Budget(limit=100_000 if size < MESSAGE_BYTES else 2 * MESSAGE_BYTES)
    core = connection(budget=budget)
    core.take_to_upstream()
    ask_packed(core, 1, size)
    while core.inflating:
        core.inflate()
    told = core.take_events()
    assert any(isinstance(event, Notice) for event in told)
    assert not any(isinstance(event, CallReady) for event in told)
    assert b"".join(core.take_to_upstream()).endswith(frames.rst_stream(1, frames.CANCEL))
    assert literal("grpc-status", "8") in b"".join(core.take_to_client())
    assert budget.used == core.requests.held == 0


def test_the_windows_of_upstream_do_not_go_past_the_processs_limit() -> None:
    """What a client may send without credit is passed on unread when all have too much."""
    budget = Budget(limit=100_000, share=HELD_SHARE_BYTES)
    core = connection(budget=budget)
    unfinished = b"\0" + (1 << 20).to_bytes(4, "big") + bytes(150_000)
    seen = []
    for stream in (1, 3, 5):
        core.from_client(headers(stream, OPENED))
        core.from_client(frames.frame(frames.DATA, 0, stream, unfinished))
        seen.append(len(core.take_events()))
    assert seen == [0, 0, 1]
    assert core.requests.held <= HELD_SHARE_BYTES + 100_000


@pytest.mark.parametrize("route", list(Route))
def test_a_call_that_may_take_long_is_told_apart(route: Route) -> None:
    """It is for the shell to let nobody wait behind it."""
    core = Connection(lambda path: route if path == OPENED.encode() else Route.PASS)
    core.from_client(opening())
    core.from_client(headers(1, OPENED))
    core.from_client(frames.frame(frames.DATA, frames.END_STREAM, 1, bytes(5)))
    told = [event.long for event in core.take_events() if isinstance(event, CallReady)]
    expected = {Route.PASS: [], Route.OPEN: [False], Route.LONG: [True], Route.STRICT: [True]}
    assert told == expected[route]


def test_held_bytes_have_an_end() -> None:
    """A client that has all the window of the world cannot have it kept here."""
    core = connection(stream_window=100)
    unfinished = b"\0" + (16 << 20).to_bytes(4, "big") + bytes(1 << 20)
    asked = b"".join(
        headers(stream, OPENED) + frames.frame(frames.DATA, 0, stream, unfinished)
        for stream in range(1, 201, 2)
    )
    with pytest.raises(FrameError) as refused:
        core.from_client(asked)
    assert refused.value.h2_code == frames.ENHANCE_YOUR_CALM
    assert core.requests.held <= CONNECTION_LIMIT_BYTES


def test_frames_behind_a_window_have_an_end() -> None:
    """Blocks wait for the DATA before them, and only so many do."""
    core = connection(stream_window=10)
    core.from_client(headers(1, OPENED))
    core.from_client(frames.frame(frames.DATA, 0, 1, b"\0\0\0\0\x01x"))
    assert core.forward(1, bytes(100))
    trailers = frames.frame(frames.HEADERS, frames.END_HEADERS, 1, b"\x88")
    with pytest.raises(FrameError) as refused:
        repeat(core, trailers, QUEUED_FRAME_BYTES // 100)
    assert refused.value.h2_code == frames.ENHANCE_YOUR_CALM


def test_own_frames_that_cannot_go_say_so() -> None:
    """While upstream is inside a frame, the client is to be left alone before long."""
    core = connection()
    core.from_client(headers(1, OPENED))
    started = frames.frame(frames.DATA, 0, 99, bytes(100))
    core.from_upstream(started[:50])
    padded = frames.frame(frames.DATA, frames.PADDED, 1, b"\x03" + bytes(3))
    repeat(core, padded, 10)
    seen = [core.backpressured]
    repeat(core, padded, OWN_FRAMES)
    seen.append(core.backpressured)
    core.from_upstream(started[50:])
    seen.append(core.backpressured)
    assert seen == [False, True, False]


def test_the_metadata_of_unfinished_calls_is_bounded() -> None:
    """Calls whose message never comes keep so much of it and no more; ended ones give it back."""
    core = connection()
    more = {f"x-{number}": "y" * 120 for number in range(300)}
    fits = CONNECTION_METADATA_BYTES // (300 * (32 + len("x-100") + 120))
    calls = range(1, 2 * fits, 2)
    for stream in calls:
        core.from_client(headers(stream, OPENED, more))
    assert not core.take_events()
    for stream in range(calls[-1] + 2, calls[-1] + 22, 2):
        core.from_client(headers(stream, OPENED, more))
    kept = sum(bool(opened.metadata) for opened in core._state.opened.values())
    assert len(core.take_events()) == len(core._state.opened) - kept > 0
    for stream in list(core._state.opened):
        core.from_client(frames.rst_stream(stream, frames.CANCEL))
    assert core._state._metadata_bytes == 0
