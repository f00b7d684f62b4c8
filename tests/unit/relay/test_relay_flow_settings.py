"""Windows that change with the settings, and what waits behind their ACK."""

from __future__ import annotations

from shimcore.relay import frames
from tests.support.waiting import others_wait, trailers_wait
from tests.support.wire import OTHER, WINDOW, Wire, body, credit, message


def test_a_smaller_initial_window_holds_at_once() -> None:
    """Until the ACK has passed, upstream may count with either."""
    wire = Wire()
    wire.call(1)
    wire.announce(WINDOW, 4)
    wire.to_upstream()
    wire.core.forward(1, None)
    assert body(wire.to_upstream(), 1) == message(b"image")[:4]


def test_a_larger_initial_window_holds_from_the_ack_on() -> None:
    """And lets the rest of a waiting request go, behind the ACK."""
    wire = Wire()
    wire.announce(WINDOW, 4)
    wire.acknowledge()
    wire.call(1)
    wire.announce(WINDOW, 100)
    wire.to_upstream()
    wire.core.forward(1, None)
    assert body(wire.to_upstream(), 1) == message(b"image")[:4]
    wire.acknowledge()
    sent = wire.to_upstream()
    assert [frame.kind for frame in sent] == [frames.SETTINGS, frames.DATA]
    assert body(sent, 1) == message(b"image")[4:]


def test_a_window_below_zero_waits_for_credit() -> None:
    """A stream that has sent more than its new window allows (§6.9.2)."""
    wire = Wire()
    wire.open(1)
    wire.data(1, message(b"x" * 95), end=False)
    wire.core.forward(1, None)
    wire.announce(WINDOW, 10)
    wire.acknowledge()
    wire.to_upstream()
    wire.data(1, b"late", end=False)
    assert not wire.to_upstream()
    wire.upstream(frames.window_update(1, 90))
    assert not wire.to_upstream()
    wire.upstream(frames.window_update(1, 10))
    assert body(wire.to_upstream(), 1) == b"late"


def test_a_held_request_that_the_new_window_is_too_small_for_gets_credit() -> None:
    """The client may be below zero by what is held, and upstream knows nothing of it."""
    wire = Wire()
    wire.open(1)
    wire.data(1, message(b"x" * 1000)[:500], end=False)
    wire.to_client()
    wire.announce(WINDOW, 100)
    sent = wire.to_client()
    assert [frame.kind for frame in sent] == [frames.SETTINGS, frames.WINDOW_UPDATE]
    assert credit(sent, 1) == 500


def test_an_ack_of_smaller_windows_waits_for_data_that_it_would_forbid() -> None:
    """Upstream would count the queued bytes against the smaller window."""
    wire = Wire()
    wire.call(1, b"")
    others_wait(wire)
    wire.announce(WINDOW, 1)
    wire.acknowledge()
    assert not wire.to_upstream()
    wire.upstream(frames.window_update(0, 100))
    sent = wire.to_upstream()
    assert [frame.kind for frame in sent] == [frames.DATA, frames.SETTINGS]


def test_header_blocks_and_data_stay_behind_an_ack_that_waits() -> None:
    """The client has sent them under the settings that it acknowledges."""
    wire = Wire()
    wire.call(1, b"")
    others_wait(wire)
    wire.announce(WINDOW, 1)
    wire.acknowledge()
    wire.open(5, OTHER)
    wire.data(5, b"z")
    wire.client(frames.window_update(5, 9))
    assert not wire.to_upstream()
    wire.upstream(frames.window_update(0, 100))
    kinds = [(frame.kind, frame.stream) for frame in wire.to_upstream()]
    assert kinds == [(0, 3), (4, 0), (1, 5), (0, 5), (8, 5)]


def test_other_acks_pass() -> None:
    """An ACK that makes nothing smaller waits for nobody."""
    wire = Wire()
    wire.call(1, b"")
    others_wait(wire)
    wire.announce(WINDOW, 100_000)
    wire.acknowledge()
    assert [frame.kind for frame in wire.to_upstream()] == [frames.SETTINGS]


def test_an_ack_does_not_overtake_a_header_block() -> None:
    """The block was encoded with the old table; upstream's decoder follows the ACK."""
    wire = Wire()
    trailers_wait(wire)
    wire.to_upstream()
    wire.announce(frames.SETTINGS_HEADER_TABLE_SIZE, 0)
    wire.acknowledge()
    assert not wire.to_upstream()
    wire.upstream(frames.window_update(1, 10))
    assert [frame.kind for frame in wire.to_upstream()] == [0, 1, 4]
