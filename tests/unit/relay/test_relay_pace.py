"""Calls that are given up: borne up to a pace, and then the client is not read for a while."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shimcore.relay import frames
from shimcore.relay.clients import Pace, SharedPace
from shimcore.relay.limits import (
    RESETS_PER_S,
    RESETS_SHARE,
    SHARED_RESETS,
    SHARED_RESETS_PER_S,
)
from tests.support.wire import PULL, Wire

ECHO = b"/x/Echo"


def given_up(count: int) -> Pace:
    """A client that has given up so many calls."""
    resets = Pace(RESETS_SHARE, RESETS_PER_S)
    for _ in range(count):
        resets.owe()
    return resets


def used_up(now: float = 100.0) -> SharedPace:
    """What all have in common, taken."""
    shared = SharedPace(SHARED_RESETS, SHARED_RESETS_PER_S)
    assert shared.take(SHARED_RESETS, now) == SHARED_RESETS
    return shared


def test_a_share_is_free() -> None:
    """Nothing is taken from the others for it."""
    assert given_up(RESETS_SHARE).wait_s(100.0, used_up()) == 0


def test_more_is_taken_from_what_all_have() -> None:
    """As long as there is some, nobody waits; after it, for as long as the rest takes."""
    shared = SharedPace(SHARED_RESETS, SHARED_RESETS_PER_S)
    assert given_up(RESETS_SHARE + SHARED_RESETS).wait_s(100.0, shared) == 0
    assert given_up(RESETS_SHARE + 30).wait_s(100.0, shared) == 30 / RESETS_PER_S
    later = 100.0 + 30 / SHARED_RESETS_PER_S
    assert round(shared.take(SHARED_RESETS, later), 6) == 30


def test_time_makes_up_for_them() -> None:
    """A client that has waited as told may go on."""
    shared, resets = used_up(), given_up(RESETS_SHARE + 40)
    wait_s = resets.wait_s(100.0, shared)
    assert wait_s == 40 / RESETS_PER_S
    shared.take(SHARED_RESETS, 100.0 + wait_s)
    assert resets.wait_s(100.0 + wait_s, shared) == 0


def test_time_before_they_were_given_up_does_not() -> None:
    """A client that was quiet for an hour has its share, and no more."""
    shared, resets = used_up(3600.0), given_up(0)
    assert resets.wait_s(0.0, shared) == 0
    for _ in range(RESETS_SHARE + 20):
        resets.owe()
    assert resets.wait_s(3600.0, shared) == 20 / RESETS_PER_S


def test_time_does_not_make_up_for_what_is_made_up_for() -> None:
    """What was owed at the last look, and is not any more, is no credit for what comes later."""
    shared, resets = used_up(), given_up(RESETS_SHARE)
    assert resets.wait_s(100.0, shared) == 0
    for _ in range(RESETS_SHARE):
        resets.make_up()
    for _ in range(RESETS_SHARE + 20):
        resets.owe()
    assert resets.wait_s(3600.0) == 20 / RESETS_PER_S


@given(st.lists(st.booleans(), max_size=400))
def test_calls_that_finish_make_up_for_them(outcomes: list[bool]) -> None:
    """Whoever lets as many finish as it gives up never waits, in whatever order."""
    resets, owed = Pace(RESETS_SHARE, RESETS_PER_S), 0
    for finishes in outcomes:
        owed = max(owed - 1, 0) if finishes else owed + 1
        (resets.make_up if finishes else resets.owe)()
    assert resets.owed == owed


def rst(stream: int) -> bytes:
    """The client's reset."""
    return frames.rst_stream(stream, frames.CANCEL)


def test_a_reset_of_a_call_under_way_counts() -> None:
    """Relayed or held; one of a stream that has ended, or never was, does not."""
    wire = Wire()
    wire.open(1, ECHO)
    wire.client(rst(1))
    assert wire.account.resets.owed == 1
    wire.open(3, PULL)
    wire.client(rst(3))
    assert wire.account.resets.owed == 2
    wire.client(rst(3) + rst(1) + rst(99))
    assert wire.account.resets.owed == 2
    wire.open(5, ECHO)
    wire.data(5, b"")
    wire.answer(5)
    assert wire.account.resets.owed == 1
    wire.client(rst(5))
    assert wire.account.resets.owed == 1
