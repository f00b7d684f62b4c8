"""Traffic that is not ours goes through byte for byte."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shimcore.errors import FrameError
from shimcore.relay import frames
from shimcore.relay.connection import Connection
from shimcore.relay.events import Notice
from shimcore.relay.route import Route

HELLO = frames.PREFACE + frames.frame(frames.SETTINGS, 0, 0)

odd_frames = st.builds(
    frames.frame,
    st.sampled_from([*range(10), 0xA, 0x10, 0xFF]),
    st.integers(0, 255),
    st.integers(0, 9),
    st.one_of(st.binary(max_size=40), st.just(bytes(400))),
)
# A well-formed PING of the client's is answered here.
clients_frames = odd_frames.filter(
    lambda frame: frame[3] != frames.PING or frame[4] & 1 or len(frame) != 17 or any(frame[5:9])
)
cuts = st.lists(st.integers(1, 60), min_size=1, max_size=30)


def chunks(data: bytes, sizes: list[int]) -> list[bytes]:
    """The data cut into chunks of these sizes, over and over."""
    cut = []
    position, turn = 0, 0
    while position < len(data):
        size = sizes[turn % len(sizes)]
        cut.append(data[position : position + size])
        position, turn = position + size, turn + 1
    return cut


@given(st.lists(clients_frames, max_size=12), st.lists(odd_frames, max_size=12), cuts)
def test_any_frames_without_an_opened_call_pass_verbatim(
    request: list[bytes], response: list[bytes], sizes: list[int]
) -> None:
    """Legal or not: upstream and the client judge them, each in its own words."""
    core = Connection(lambda path: Route.PASS)
    sent = HELLO + b"".join(request)
    answered = frames.frame(frames.SETTINGS, 0, 0) + b"".join(response)
    up, down = chunks(sent, sizes), chunks(answered, sizes)
    for number in range(max(len(up), len(down))):
        if number < len(up):
            core.from_client(up[number])
        if number < len(down):
            core.from_upstream(down[number])
    assert b"".join(core.take_to_upstream()) == sent
    assert b"".join(core.take_to_client()) == answered
    assert all(isinstance(event, Notice) for event in core.take_events())
    assert core.requests.held == 0


@given(st.binary(max_size=300), cuts)
def test_anything_instead_of_a_preface_passes_verbatim(data: bytes, sizes: list[int]) -> None:
    """Whatever the client speaks, in whatever pieces."""
    core = Connection(lambda path: Route.OPEN)
    for chunk in chunks(data, sizes):
        core.from_client(chunk)
    out = b"".join(core.take_to_upstream())
    assert data.startswith(out) if data.startswith(frames.PREFACE) else out == data


@given(st.binary(max_size=400), st.binary(max_size=400), cuts)
def test_garbage_after_the_handshake_never_breaks_the_core(
    request: bytes, response: bytes, sizes: list[int]
) -> None:
    """It passes, waits for a frame's end, or is a FrameError; it is never invented."""
    core = Connection(lambda path: Route.OPEN)
    core.from_client(HELLO)
    core.from_upstream(frames.frame(frames.SETTINGS, 0, 0))
    core.take_to_client()
    core.take_to_upstream()
    try:
        for chunk in chunks(request, sizes):
            core.from_client(chunk)
        for chunk in chunks(response, sizes):
            core.from_upstream(chunk)
    except FrameError:
        core.close()
        return
    down = b"".join(core.take_to_client())
    assert response.startswith(down) or bytes((0, 0, 8, frames.PING)) in request
    core.close()
