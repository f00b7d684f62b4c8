"""The ledger: what the client sees is upstream's window, less what is held, plus the debt."""

from __future__ import annotations

import random

import pytest

from shimcore.relay.windows import Ledger


def test_held_bytes_are_off_the_clients_window_only() -> None:
    """What the relay keeps, upstream has not received."""
    ledger = Ledger(100)
    ledger.receive(30)
    assert (ledger.seen, ledger.room, ledger.held) == (70, 100, 30)
    ledger.send(30)
    assert (ledger.seen, ledger.room, ledger.held) == (70, 70, 0)
    assert (ledger.held, ledger.debt) == (0, 0)


def test_a_shorter_message_is_credited_to_the_client() -> None:
    """The difference is paid at once, since upstream will never give it back."""
    ledger = Ledger(100)
    ledger.receive(30)
    ledger.replace(30, 10)
    assert ledger.settle() == 20
    ledger.send(10)
    assert (ledger.seen, ledger.room, ledger.debt) == (90, 90, 0)


def test_a_longer_message_is_withheld_from_upstreams_credit() -> None:
    """What upstream gives for bytes that the client never sent stays here."""
    ledger = Ledger(100)
    ledger.receive(30)
    ledger.replace(30, 50)
    assert ledger.settle() == 0
    ledger.send(50)
    assert (ledger.seen, ledger.room, ledger.debt) == (70, 50, 20)
    assert ledger.update(5) == 0
    assert ledger.update(45) == 30
    assert (ledger.seen, ledger.room, ledger.debt) == (100, 100, 0)


def test_credit_for_held_bytes_is_withheld_later() -> None:
    """A grant is a loan on what upstream will give for the same bytes."""
    ledger = Ledger(100)
    ledger.receive(100)
    assert ledger.seen == 0
    ledger.grant(100)
    assert ledger.seen == ledger.room == 100
    ledger.send(100)
    assert ledger.update(100) == 0
    assert (ledger.held, ledger.debt) == (0, 0)


def test_dropped_bytes_are_credited_once() -> None:
    """What has been granted already is not paid a second time."""
    ledger = Ledger(100)
    ledger.receive(50)
    ledger.grant(20)
    ledger.replace(50, 0)
    assert ledger.settle() == 30
    assert ledger.settle() == 0
    assert (ledger.seen, ledger.room) == (100, 100)
    assert (ledger.held, ledger.debt) == (0, 0)


@pytest.mark.parametrize("seed", range(20))
def test_any_run_ends_with_equal_windows(seed: int) -> None:
    """After all was sent and credited, both windows are what they were at the start."""
    rng = random.Random(seed)
    ledger = Ledger(65_535)
    client = 65_535  # what the client believes
    unread = 0
    for _ in range(300):
        size = rng.randint(0, max(0, min(client, 9000)))
        ledger.receive(size)
        client -= size
        new = rng.choice([0, size, size // 2, size + 100])
        if rng.random() < 0.3 and ledger.held > ledger.debt:
            client += ledger.held - ledger.debt
            ledger.grant(ledger.held - ledger.debt)
        ledger.replace(size, new)
        client += ledger.settle()
        part = min(ledger.held, max(ledger.room, 0))
        ledger.send(part)
        unread += part
        read = rng.randint(0, unread)
        if read:
            client += ledger.update(read)
            unread -= read
        assert client == ledger.seen
    while ledger.held or unread:
        part = min(ledger.held, ledger.room)
        ledger.send(part)
        client += ledger.update(unread + part)
        unread = 0
    assert client == ledger.seen == ledger.room == 65_535
    assert (ledger.held, ledger.debt) == (0, 0)
