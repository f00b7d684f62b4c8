"""What the steps of one switch work with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from shimcore.switch.control import SwitchControl
from shimcore.switch.exchange import UNDONE, Phase, State, SwitchRequest, keep
from shimcore.switch.handle import Handle
from shimcore.switch.health import Wanted
from shimcore.switch.journal import JournaledRoot
from shimcore.switch.undo import HALT, KUBELET_DUE, kubelet_again, unit_again
from shimcore.systemd.changes import Change, kubelet_unit
from shimcore.systemd.root import Root
from shimcore.systemd.runtimes.rereading import cri_answers

STEP_S = 20.0
"""For a step that has no bound of its own."""
ANSWER_S = 40.0
"""For a runtime that was restarted to answer (`shimcore.systemd.runtimes.rereading`)."""


@dataclass(slots=True)
class Switch:
    """One switch; `root` is for its own files, all others change through `journaled`."""

    request: SwitchRequest
    root: Root
    journaled: JournaledRoot
    control: SwitchControl
    handle: Handle
    wanted: Wanted
    serves: str | None
    """The version of before."""
    say: Callable[[str], None]
    completions: Mapping[str, str] = field(default_factory=dict)
    step_name: str = ""

    def step(self, name: str) -> None:
        """Go on to a step, for which there is some time. Raises ShimError."""
        self.step_name = name
        self.fails("it was ended in the midst: killed, the node went down, or it took too long")
        keep(self.root, State(self.request.revision, Phase.RUNNING, self.serves, name))
        self.handle.allow(STEP_S)
        self.say(f"step: {name}")

    def wiring(self, wired: Sequence[Change], for_runtime: Sequence[Change]) -> str:
        """Have the undo tell runtime and kubelet when it has put these back; kubelet's unit.

        What is noted first is done last: the runtime is told, then kubelet, and the shim of a first
        installation ends when kubelet has left it.
        """
        unit = kubelet_unit(wired)
        last = [HALT, kubelet_again(unit, runs=self.control.is_active(unit))]
        for change in wired:
            self.journaled.after_putting_back(change.path, *last, KUBELET_DUE)
        for change in for_runtime:
            if change.then:
                again = unit_again(change.then)
                self.journaled.after_putting_back(change.path, *last, again)
        self.control.kubelet = unit
        return unit

    def answers(self, runtime_socket: str) -> bool:
        """Whether the runtime, restarted, says its version in time. Raises ShimError."""
        self.step("runtime")
        self.handle.allow(ANSWER_S)
        return cri_answers(runtime_socket)

    def fails(self, why: str) -> State:
        """What the undo is to say, from now on. Raises ShimError."""
        state = State(self.request.revision, Phase.UNDONE, self.serves, self.step_name, why)
        keep(self.root, state, UNDONE)
        return state
