"""What is told of older processes, and what a hand-over asks of them first."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from shimcore.client.facts import status_facts
from shimcore.config.state import StateError
from shimcore.daemon import serve, states
from shimcore.daemon.handover import CannotHandOverError
from shimcore.daemon.shim import Shim
from shimcore.images.journals import OtherProcess
from shimcore.systemd.kubelet_way import KubeletWay, Way


class FakeJournals:
    """Those of a stateDir that says this."""

    def __init__(self, answer: list[OtherProcess] | StateError) -> None:
        self._answer = answer
        self.fault: StateError | None = None

    async def hold(self) -> None:
        if self.fault is not None:
            raise self.fault

    async def others(self) -> list[OtherProcess]:
        if isinstance(self._answer, StateError):
            raise self._answer
        return self._answer


def shim_of(answer: list[OtherProcess] | StateError) -> Shim:
    generations = SimpleNamespace(journals=FakeJournals(answer))
    return cast("Shim", SimpleNamespace(generations=generations))


async def test_a_state_dir_that_does_not_answer() -> None:
    """Status says that they are unknown, and no hand-over begins."""
    shim = shim_of(StateError("stateDir /state does not answer"))
    facts = status_facts(await states.older_processes(shim), KubeletWay(Way.NO_KUBELET))
    assert facts["older_processes"] == []
    assert facts["older_unknown"] == "stateDir /state does not answer"
    with pytest.raises(CannotHandOverError, match="stateDir /state does not answer"):
        await serve._refuse_beside_others(shim)


async def test_two_of_them() -> None:
    """Each is told of, and there is no third."""
    shim = shim_of([OtherProcess(7, "1.0.0", 1), OtherProcess(8, "1.1.0", 2)])
    facts = status_facts(await states.older_processes(shim), KubeletWay(Way.NO_KUBELET))
    assert [one["pid"] for one in facts["older_processes"]] == [7, 8]
    assert facts["older_unknown"] is None
    with pytest.raises(CannotHandOverError, match="2 older processes"):
        await serve._refuse_beside_others(shim)
    await serve._refuse_beside_others(shim_of([OtherProcess(7, "1.0.0", 1)]))


async def test_without_a_lock() -> None:
    """The next process would take this one's pulls for those of one that is gone."""
    shim = shim_of([])
    journals = cast("FakeJournals", shim.generations.journals)
    journals.fault = StateError("stateDir /state: no journal of pulls can be had there: why")
    with pytest.raises(CannotHandOverError, match="could not know of this one: stateDir /state"):
        await serve._refuse_beside_others(shim)
    journals.fault = None
    await serve._refuse_beside_others(shim)
