"""Conversations between real h2 endpoints through the core come out as without it.

RELAY_SEEDS sets how many are played (120 when it is not set), RELAY_SEED_FROM the first.
"""

from __future__ import annotations

import os

import pytest

from tests.support.conversation.play import Conversation

SEEDS = int(os.environ.get("RELAY_SEEDS", "120"))
FIRST = int(os.environ.get("RELAY_SEED_FROM", "0"))
BATCH = 10
# Seeds that have found a defect once.
FOUND = (10, 44, 78, 161, 1283, 1305, 1683, 3790, 11400, 20005)


@pytest.mark.parametrize("start", range(FIRST, FIRST + SEEDS, BATCH))
def test_conversations_come_out_as_without_the_relay(start: int) -> None:
    """Contents, statuses, events and all windows are those that both ends expect."""
    for seed in range(start, min(start + BATCH, FIRST + SEEDS)):
        play(seed)


@pytest.mark.parametrize("seed", FOUND)
def test_conversations_that_once_failed(seed: int) -> None:
    """Seeds that have found a defect once find none now."""
    play(seed, knows=0, swells=0)


def play(seed: int, knows: float | None = None, swells: float = 0.5) -> None:
    """One conversation; the seed is part of what a failure says."""
    try:
        Conversation(seed, knows, swells).run()
    except Exception as error:
        error.add_note(f"seed {seed}")
        raise
