"""Credit for held bytes ends where the memory for them does."""

from __future__ import annotations

from shimcore.relay import frames
from shimcore.relay.budget import Budget
from shimcore.relay.connection import held_budget
from shimcore.relay.events import Notice
from shimcore.relay.limits import CONNECTION_HELD_BYTES, CONNECTION_LIMIT_BYTES, MESSAGE_BYTES
from tests.support.wire import DEFAULT, WINDOW, Wire, credit


def fill(wire: Wire, stream: int, size: int) -> int:
    """A client with an unfinished message of `size` bytes sends what it may; returns that."""
    wire.open(stream)
    left, sent = size, 0
    data = b"\0" + size.to_bytes(4, "big")
    while left:
        part = min(
            wire.core.requests.windows[0], wire.core._state.opened[stream].ledger.seen, 16_384, left
        )
        if part <= 0 or stream not in wire.core.gathering:
            break
        payload = (data + b"x" * part)[:part]
        data = b""
        wire.data(stream, payload, end=False)
        left -= part
        sent += part
    return sent


def memory_blocked(wire: Wire) -> bool:
    """Whether credit is being withheld now."""
    return wire.core.memory_blocked


def test_credit_stops_at_the_connections_limit() -> None:
    """Held bytes of one connection are bounded; the rest waits with the client."""
    wire = Wire()
    sent = sum(fill(wire, stream, MESSAGE_BYTES) for stream in (1, 3, 5))
    assert wire.core.memory_blocked
    assert sent == wire.core.requests.held
    assert CONNECTION_HELD_BYTES <= sent <= CONNECTION_HELD_BYTES + 2 * DEFAULT


def test_credit_stops_at_the_processs_limit_and_goes_on_with_regrant() -> None:
    """All connections share one budget; when there is room again, the client hears of it."""
    budget = Budget(limit=100_000)
    first, second = Wire(budget=budget), Wire(budget=budget)
    assert fill(first, 1, 150_000) > 100_000
    assert memory_blocked(first)
    assert fill(second, 1, 150_000) == DEFAULT
    assert memory_blocked(second)
    assert budget.used == first.core.requests.held + second.core.requests.held
    second.to_client()
    second.core.regrant()
    assert memory_blocked(second)
    assert not second.to_client()
    first.core.refuse(1, 8, "too much")
    assert budget.used == second.core.requests.held
    second.core.regrant()
    assert not memory_blocked(second)
    sent = second.to_client()
    assert credit(sent, 0) == DEFAULT
    assert credit(sent, 1) > 0


def test_the_budget_is_given_back_when_a_connection_ends() -> None:
    """And follows what upstream takes."""
    budget = held_budget()
    wire = Wire(budget=budget)
    wire.call(1, b"")
    wire.call(3, b"x" * 995)
    wire.core.forward(1, b"x" * 70_000)
    wire.to_upstream()
    assert budget.used == wire.core.requests.held == 70_005 - DEFAULT + 1000
    wire.upstream(frames.window_update(0, 9000) + frames.window_update(1, 9000))
    assert budget.used == wire.core.requests.held == 1000
    wire.core.close()
    assert budget.used == 0


def test_too_much_in_a_huge_window_is_released_unread() -> None:
    """Where upstream's own window lets the client send more than the relay may keep."""
    wire = Wire()
    wire.announce(WINDOW, 1 << 30)
    wire.acknowledge()
    wire.upstream(frames.window_update(0, 1 << 30))
    for stream in range(1, 21, 2):
        fill(wire, stream, MESSAGE_BYTES)
    assert wire.core.requests.held <= CONNECTION_LIMIT_BYTES
    assert any(isinstance(event, Notice) for event in wire.events())
