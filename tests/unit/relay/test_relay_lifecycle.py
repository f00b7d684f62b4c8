"""Every state of a proxy connection, with every change that may happen to it."""

from __future__ import annotations

import pytest

from shimcore.relay.lifecycle import MOVES, Change, State

END, OTHER = Change.CLIENT_END, Change.UPSTREAM_END
LIVING = tuple(state for state in State if state < State.CLOSING)


@pytest.mark.parametrize("state", list(State))
def test_a_state_can_be_left_and_reached(state: State) -> None:
    """But for the first and the last, every state has a way in and a way out."""
    assert (state in MOVES.values()) == (state is not State.CONNECTING)
    assert any(before is state for before, _ in MOVES) == (state is not State.CLOSED)


@pytest.mark.parametrize("state", LIVING)
def test_every_living_connection_can_be_closed(state: State) -> None:
    """Whatever it is at, and nothing brings it back."""
    assert MOVES[state, Change.CLOSE] is State.CLOSING
    reached = {
        MOVES[State.CLOSING, change] for change in Change if (State.CLOSING, change) in MOVES
    }
    assert reached == {State.CLOSED}


def test_nothing_happens_twice() -> None:
    """A change that leads to a state changes nothing there."""
    for (_, change), state in MOVES.items():
        assert (state, change) not in MOVES


@pytest.mark.parametrize("ends", [(END, OTHER), (OTHER, END)])
def test_half_close(ends: tuple[Change, Change]) -> None:
    """Each direction ends for itself; the connection is done when both have."""
    first = MOVES[State.RELAYING, ends[0]]
    assert first < State.CLOSING
    assert MOVES[first, ends[1]] is State.CLOSING


def test_an_end_waits_for_upstream() -> None:
    """While upstream is being connected, an end of the client's is not taken in."""
    assert (State.CONNECTING, Change.CLIENT_END) not in MOVES
    assert (State.CONNECTING, Change.UPSTREAM_END) not in MOVES
