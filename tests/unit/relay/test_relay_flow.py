"""Flow control: both ends see the windows that they would see without the relay."""

from __future__ import annotations

import pytest

from shimcore.errors import FrameError
from shimcore.relay import frames
from shimcore.relay.budget import Budget
from shimcore.relay.events import CallReady
from shimcore.relay.limits import MESSAGE_BYTES
from shimcore.relay.streams import GRANT_BELOW_BYTES
from tests.support.waiting import others_wait, trailers_wait
from tests.support.wire import DEFAULT, OTHER, WINDOW, Frame, Wire, body, credit, message


def test_data_of_other_calls_is_counted() -> None:
    """Padding included, and upstream's credit as well."""
    wire = Wire()
    wire.open(1, OTHER)
    wire.client(frames.frame(frames.DATA, frames.PADDED, 1, b"\x03abc\0\0\0"))
    assert wire.core.requests.windows == (DEFAULT - 7, DEFAULT - 7, 0)
    wire.upstream(frames.window_update(0, 7))
    assert wire.core.requests.windows == (DEFAULT, DEFAULT, 0)
    assert credit(wire.to_client(), 0) == 7


def test_a_shorter_message_credits_the_client() -> None:
    """On the connection, and on the stream while the client has not ended it."""
    wire = Wire()
    wire.open(1)
    wire.data(1, message(b"x" * 100), end=False)
    wire.core.forward(1, b"x" * 40)
    sent = wire.to_client()
    assert (credit(sent, 0), credit(sent, 1)) == (60, 60)
    assert wire.core.requests.windows == (DEFAULT - 45, DEFAULT - 45, 0)


def test_a_stream_that_the_client_has_ended_gets_no_credit() -> None:
    """Its window is of no use any more."""
    wire = Wire()
    wire.call(1, b"x" * 100)
    wire.core.forward(1, b"")
    sent = wire.to_client()
    assert (credit(sent, 0), credit(sent, 1)) == (100, 0)


def test_a_longer_message_is_withheld_from_upstreams_credit() -> None:
    """WINDOW_UPDATEs stay here, or go on smaller, until it is made up for."""
    wire = Wire()
    wire.open(1)
    wire.data(1, message(b""), end=False)
    wire.core.forward(1, b"x" * 100)
    assert wire.core.requests.debt == 100
    assert not wire.to_client()
    wire.upstream(frames.window_update(0, 60) + frames.window_update(1, 60))
    assert not wire.to_client()
    wire.upstream(frames.window_update(0, 45) + frames.window_update(1, 45))
    five = (5).to_bytes(4, "big")
    assert wire.to_client() == [
        Frame(frames.WINDOW_UPDATE, 0, 0, five),
        Frame(frames.WINDOW_UPDATE, 0, 1, five),
    ]
    assert wire.core.requests.windows == (DEFAULT, DEFAULT, 0)
    assert wire.core.requests.debt == 0


def test_the_surplus_waits_for_upstreams_connection_window() -> None:
    """What upstream has no room for is sent when it has."""
    wire = Wire()
    wire.call(1)
    wire.core.forward(1, b"x" * 100_000)
    sent = wire.to_upstream()
    assert len(body(sent, 1)) == DEFAULT
    assert wire.core.requests.held == 100_005 - DEFAULT
    wire.upstream(frames.window_update(1, 50_000) + frames.window_update(0, 34_000))
    wire.upstream(frames.window_update(0, 50_000))
    sent += wire.to_upstream()
    assert body(sent, 1) == message(b"x" * 100_000)
    assert sent[-1].flags == frames.END_STREAM
    assert wire.core.requests.held == 0


def test_the_surplus_waits_for_upstreams_stream_window() -> None:
    """The stream's own window counts as well as the connection's."""
    wire = Wire()
    wire.announce(WINDOW, 50)
    wire.acknowledge()
    wire.to_upstream()
    wire.call(1)
    wire.core.forward(1, b"x" * 100)
    sent = wire.to_upstream()
    assert len(body(sent, 1)) == 50
    wire.upstream(frames.window_update(1, 100))
    assert body(sent + wire.to_upstream(), 1) == message(b"x" * 100)


def test_other_calls_pass_a_surplus_that_waits_for_its_own_stream() -> None:
    """Streams wait independently of each other."""
    wire = Wire()
    wire.announce(WINDOW, 50)
    wire.acknowledge()
    wire.call(1)
    wire.core.forward(1, b"x" * 100)
    wire.to_upstream()
    wire.open(3, OTHER)
    wire.data(3, b"passes")
    assert body(wire.to_upstream(), 3) == b"passes"


def test_others_data_waits_where_the_client_was_given_more_than_upstream_takes() -> None:
    """What a grant has let in is sent when upstream has room, in the order of each stream."""
    wire = Wire()
    wire.announce(frames.SETTINGS_MAX_FRAME_SIZE, 1 << 20)
    wire.to_client()
    wire.call(1, b"x" * 40_000)
    assert credit(wire.to_client(), 0) == 40_005
    wire.core.forward(1, None)
    assert wire.core.requests.windows == (DEFAULT, DEFAULT - 40_005, 0)
    wire.open(3, OTHER)
    wire.to_upstream()
    for _ in range(4):
        wire.client(frames.frame(frames.DATA, frames.PADDED, 3, b"\x02" + b"y" * 10_000 + b"\0\0"))
    sent = wire.to_upstream()
    assert len(body(sent, 3)) == DEFAULT - 40_005 - 2 * 3
    wire.upstream(frames.window_update(0, 40_005))
    sent += wire.to_upstream()
    assert body(sent, 3) == b"y" * 40_000
    assert wire.core.requests.held == 0


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "in parts"])
def test_a_frame_over_the_announced_size_is_not_made_legal_by_waiting(at_once: bool) -> None:
    """DATA of another call that has to wait would go on in frames of a legal size."""
    wire = Wire()
    wire.call(1, b"x" * 10_000)
    wire.open(3, OTHER)
    for _ in range(3):
        wire.data(3, bytes(16_384), end=False)
    too_long = frames.frame(frames.DATA, 0, 3, bytes(16_385))
    with pytest.raises(FrameError) as caught:
        wire.client(too_long if at_once else too_long[:100])
    assert caught.value.h2_code == frames.FRAME_SIZE_ERROR


def test_padding_of_held_data_is_credited_at_once() -> None:
    """It is not sent on."""
    wire = Wire()
    wire.open(1)
    payload = b"\x0a" + message(b"image") + bytes(10)
    wire.client(frames.frame(frames.DATA, frames.PADDED, 1, payload))
    sent = wire.to_client()
    assert (credit(sent, 0), credit(sent, 1)) == (11, 11)
    assert wire.core.requests.held == 10


def test_a_message_larger_than_the_window_gets_credit() -> None:
    """4 MiB through windows of 20 KiB: upstream sees nothing until the decision."""
    wire = Wire()
    wire.announce(WINDOW, 20_480)
    wire.acknowledge()
    wire.open(1)
    whole = message(b"z" * MESSAGE_BYTES)
    stream, connection = 20_480, DEFAULT
    position = 0
    while position < len(whole):
        size = min(stream, connection, 16_384, len(whole) - position)
        assert size > 0, "the client stalls"
        end = position + size == len(whole)
        wire.data(1, whole[position : position + size], end=end)
        position += size
        sent = wire.to_client()
        stream += credit(sent, 1) - size
        connection += credit(sent, 0) - size
        assert stream <= 20_480
        assert connection <= DEFAULT
    assert not body(wire.to_upstream(), 1)
    (ready,) = wire.events()
    assert isinstance(ready, CallReady)
    assert len(ready.message) == MESSAGE_BYTES
    wire.core.forward(1, None)
    received, sent = 0, []
    while received < len(whole):
        got = body(wire.to_upstream(), 1)
        assert got, "the surplus stalls"
        received += len(got)
        wire.upstream(frames.window_update(0, len(got)) + frames.window_update(1, len(got)))
        sent += wire.to_client()
    connection += credit(sent, 0)
    assert connection == DEFAULT
    assert wire.core.requests.windows == (DEFAULT, DEFAULT, 0)
    assert wire.core.requests.debt == 0


def test_a_window_of_ten_bytes_takes_a_long_message() -> None:
    """Credit is given for the prefix first, then for the rest."""
    wire = Wire()
    wire.announce(WINDOW, 10)
    wire.acknowledge()
    wire.open(1)
    whole = message(b"z" * 500)
    window, position = 10, 0
    while position < len(whole):
        size = min(window, 3, len(whole) - position)
        assert size > 0, "the client stalls"
        wire.data(1, whole[position : position + size], end=position + size == len(whole))
        position += size
        window += credit(wire.to_client(), 1) - size
    assert len(wire.events()) == 1


def test_many_held_calls_do_not_stall_others() -> None:
    """200 held requests: the client can always send another call's request."""
    wire = Wire()
    window = DEFAULT
    for number in range(200):
        stream = 2 * number + 1
        assert window > 1000, "the client stalls"
        wire.call(stream, b"x" * 995)
        window += credit(wire.to_client(), 0) - 1000
    assert wire.core.requests.held == 200_000
    wire.open(401, OTHER)
    wire.to_upstream()
    wire.data(401, b"y" * 16_000)
    assert body(wire.to_upstream(), 401) == b"y" * 16_000
    for number in range(200):
        wire.core.forward(2 * number + 1, None)
    read = 0
    while size := sum(len(frame.payload) for frame in wire.to_upstream() if frame.kind == 0):
        read += size
        wire.upstream(frames.window_update(0, size))
    window += credit(wire.to_client(), 0) - 16_000
    assert read == 200_000
    assert wire.core.requests.windows == (window, DEFAULT - 16_000, 0)


def test_others_data_makes_the_relay_give_credit_again() -> None:
    """In a large window, what is held may be enough to stop upstream from giving any."""
    wire = Wire()
    wire.upstream(frames.window_update(0, 1 << 20))
    wire.to_client()
    for stream in range(1, 201, 2):
        wire.call(stream, b"x" * 9995)
    window = wire.core.requests.windows[0]
    assert window > GRANT_BELOW_BYTES
    assert not credit(wire.to_client(), 0)
    wire.open(201, OTHER)
    wire.data(201, b"y" * (window - 20_000), end=False)
    assert credit(wire.to_client(), 0) == wire.core.requests.debt == 1_000_000


def test_withheld_credit_is_granted_again_while_bytes_are_held() -> None:
    """Paying for an old grant must not starve a client whose request is held."""
    wire = Wire()
    wire.announce(frames.SETTINGS_MAX_FRAME_SIZE, 1 << 20)
    wire.to_client()
    wire.open(1)
    wire.data(1, b"\0" + (100_000).to_bytes(4, "big") + b"x" * 40_000, end=False)
    granted = wire.core.requests.debt
    assert granted == 40_005
    wire.data(1, b"x" * 30_000, end=False)
    wire.to_client()
    wire.open(3, OTHER)
    wire.data(3, b"y" * wire.core.requests.windows[0])
    assert wire.core.requests.debt == wire.core.requests.held == 70_005
    wire.to_client()
    wire.upstream(frames.window_update(0, 30_000))
    assert wire.core.requests.windows[0] >= min(GRANT_BELOW_BYTES, wire.core.requests.windows[1])


def test_a_client_that_overruns_its_window_is_told_so() -> None:
    """What is held cannot grow past what the client was given (§6.9.1)."""
    wire = Wire(budget=Budget(limit=-1))
    wire.announce(frames.SETTINGS_MAX_FRAME_SIZE, 1 << 20)
    wire.open(1)
    wire.data(1, b"\0" + (200_000).to_bytes(4, "big") + b"x" * 60_000, end=False)
    with pytest.raises(FrameError) as caught:
        wire.data(1, b"x" * 5531, end=False)
    assert caught.value.h2_code == frames.FLOW_CONTROL_ERROR


def test_a_reset_gives_back_what_is_held_and_what_waits() -> None:
    """Upstream has not seen those bytes and will never credit them."""
    wire = Wire()
    wire.call(1, b"x" * 95)
    wire.call(3, b"")
    wire.core.forward(3, b"y" * 70_000)
    wire.to_client()
    wire.client(frames.rst_stream(1, 8))
    wire.client(frames.rst_stream(3, 8))
    assert wire.core.requests.held == 0
    seen, left, _ = wire.core.requests.windows
    assert seen - wire.core.requests.debt == left
    read = DEFAULT - left
    wire.upstream(frames.window_update(0, read))
    assert wire.core.requests.windows == (DEFAULT, DEFAULT, 0)


def test_a_reset_drops_others_queued_data() -> None:
    """Of a call that was not opened, by either side."""
    for reset in ("client", "upstream"):
        wire = Wire()
        wire.call(1, b"")
        others_wait(wire)
        assert wire.core.requests.held > 0
        getattr(wire, reset)(frames.rst_stream(3, 8))
        assert wire.core.requests.held == 0
        assert credit(wire.to_client(), 0) == 0, "it is in debt for the longer message"
        read = DEFAULT - wire.core.requests.windows[1]
        wire.upstream(frames.window_update(0, read))
        assert wire.core.requests.windows == (DEFAULT, DEFAULT, 0)


def test_trailers_behind_a_surplus_survive_upstreams_reset() -> None:
    """The header table's history goes on, and nobody waits for the dropped DATA."""
    wire = Wire()
    trailers_wait(wire)
    wire.open(3, OTHER)
    wire.to_upstream()
    wire.upstream(frames.rst_stream(1, 8))
    assert [(f.kind, f.stream) for f in wire.to_upstream()] == [(1, 1), (1, 3)]
