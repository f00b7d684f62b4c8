"""Registries that answer without an end: what they cost everybody else."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator

import pytest

from shimcore.registry.answers import Outcome
from shimcore.registry.client import RegistryClient
from tests.support.hostile import KINDS, hostile_registry
from tests.support.registries import LOGIN, candidate, configured

PULLS = 20
TIMEOUT_S = 30.0
LONGEST_TURN_S = 0.15


class Turns:
    """The longest time of the processor that passed between two turns of a task of the loop.

    Not of the wall clock: what else the machine does is not the registry's doing.
    """

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._task = asyncio.create_task(self._take())

    async def _take(self) -> None:
        while True:
            before = time.thread_time()
            await asyncio.sleep(0.005)
            self.longest_s = max(self.longest_s, time.thread_time() - before)

    async def stop(self) -> None:
        await asyncio.sleep(0.01)
        self._task.cancel()


@pytest.fixture
def uncollected() -> Iterator[None]:
    """No collection of the whole test run's garbage in a turn of the loop."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_without_an_end_does_not_hold_up_the_loop(kind: str) -> None:
    """Twenty pulls at once: it is given up long before the timeout, and others have their turn."""
    client = RegistryClient([], probe_timeout_s=TIMEOUT_S)
    nowhere = configured("http://127.0.0.1:1")
    await client.head_manifest(nowhere, candidate(nowhere))  # the libraries are loaded
    async with hostile_registry(kind) as address:
        registry = configured(address, credentials=LOGIN)
        turns = Turns()
        answers = await asyncio.gather(
            *(
                client.head_manifest(registry, candidate(registry, tag=f"v{number}"))
                for number in range(PULLS)
            )
        )
        await turns.stop()
    await client.aclose()
    assert {answer.outcome for answer in answers} == {Outcome.UNREACHABLE}
    assert max(answer.elapsed_s for answer in answers) < TIMEOUT_S / 2
    assert turns.longest_s < LONGEST_TURN_S
    # It talks, and what is nonsense for one image says nothing about another.
    assert client.states()[registry.host] == "closed"
