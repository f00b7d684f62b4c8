"""What stands in the runtime's place while it is away: its answers, its count, its words."""

from __future__ import annotations

import pytest

from shimcore.relay import frames
from shimcore.relay.unavailable import Outage, UnavailableServer
from tests.support.clock import Clock


def test_every_refused_call_is_counted_once() -> None:
    """One that is to be sent again elsewhere, since the runtime is back, is not."""
    why: list[str | None] = ["away", "away", None]
    counted: list[None] = []
    server = UnavailableServer(lambda: why.pop(0), lambda: counted.append(None))
    flags = frames.END_HEADERS | frames.END_STREAM
    calls = b"".join(frames.frame(frames.HEADERS, flags, stream, b"\x82") for stream in (1, 3, 5))
    server.from_client(frames.PREFACE + calls)
    assert not why
    assert len(counted) == 2


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_an_outage_is_a_line_a_minute(caplog: pytest.LogCaptureFixture, clock: Clock) -> None:
    """The first at once, then with a count; and one when it is over, if it was told of."""
    caplog.set_level("INFO")
    outage = Outage(clock)
    outage.over("/r.sock")
    for _ in range(180):
        outage.refused("the runtime is away")
        clock.now += 0.5
    outage.over("/r.sock")
    outage.over("/r.sock")
    outage.refused("the runtime is away")  # within the minute
    outage.over("/r.sock")
    clock.now += 60
    outage.refused("the runtime is away")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "the runtime is away; calls are answered UNAVAILABLE"),
        ("WARNING", "the runtime is away; calls on 120 more connections are answered UNAVAILABLE"),
        ("INFO", "the container runtime at /r.sock is back"),
        ("WARNING", "the runtime is away; calls on 61 more connections are answered UNAVAILABLE"),
    ]
