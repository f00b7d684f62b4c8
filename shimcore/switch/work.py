"""What the steps of one switch work with.

systemd among it: what the undo has to do is noted before it is asked, and time is allowed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from shimcore.switch.exchange import UNDONE, Phase, State, SwitchRequest, keep
from shimcore.switch.handle import Handle
from shimcore.switch.health import Wanted
from shimcore.switch.journal import Journal, JournaledRoot
from shimcore.switch.undo import HALT, KUBELET_DUE, read_again
from shimcore.systemd.changes import Change, kubelet_unit
from shimcore.systemd.kubelet import UNIT as KUBELET
from shimcore.systemd.root import Root
from shimcore.systemd.runtimes.rereading import ANSWER_TIMEOUT_S, cri_answers
from shimcore.systemd.systemctl import ServiceControl
from shimcore.systemd.units import SERVICE, SOCKET

STEP_S = 20.0
"""For a step that has no bound of its own."""
ANSWER_S = ANSWER_TIMEOUT_S + 10
"""For a runtime that was restarted to answer."""
UNIT_S = 40.0
"""For a unit of the runtime, or a shim that nobody uses yet, to stop and start."""


class SwitchControl:
    """A `ServiceControl` between the installation and systemd."""

    def __init__(
        self,
        control: ServiceControl,
        journal: Journal,
        handle: Handle,
        health_s: float,
        *,
        serving: bool,
        when_stopped: Sequence[str],
    ) -> None:
        """`when_stopped`: what the undo does in the place of a stop of the shim.

        `health_s`: what kubelet, and a shim that is `serving` it, may take.
        """
        self._control = control
        self._journal = journal
        self._handle = handle
        self._health_s = health_s
        self._shim_s = health_s if serving else UNIT_S
        self._when_stopped = when_stopped
        self.kubelet = KUBELET
        self.touched_at = time.monotonic()
        """When something was done last that the node's pods could notice."""
        self.began_shim = False
        """Whether the service that runs now has read everything as it is now."""

    def run(self, *arguments: str, timeout_s: float | None = None) -> None:
        """Run `systemctl arguments…`. Raises ShimError when it fails or takes too long."""
        verb, *units = arguments
        ours = bool({SOCKET, SERVICE} & set(units))
        if verb == "stop" and ours:
            for line in self._when_stopped:
                self._journal.note(line)
        if SERVICE in units:  # started while it runs, it is only asked to be there
            runs_on = verb == "start" and self.is_active(SERVICE)
            self.began_shim |= verb in {"start", "restart"} and not runs_on
        bound = self._shim_s if ours else self._health_s if self.kubelet in units else UNIT_S
        if units:
            self.touched()
            # By itself the timer leaves the time of health.
            self._handle.allow(bound - self._health_s)
        self._control.run(*arguments, timeout_s=min(bound, timeout_s or bound))

    def touched(self) -> None:
        """Something is done now that the node's pods could notice."""
        self.touched_at = time.monotonic()

    def is_active(self, unit: str) -> bool:
        """Whether the unit runs, starts or reloads."""
        return self._control.is_active(unit)


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
        runs = self.control.is_active(unit)
        last = [HALT, read_again("kubelet", f"restart {unit}", runs=runs)]
        for change in wired:
            self.journaled.after_putting_back(change.path, *last, KUBELET_DUE)
        for change in for_runtime:
            if change.then:
                runs = self.control.is_active(change.then.partition(" ")[2])
                again = read_again("unit", change.then, runs=runs)
                self.journaled.after_putting_back(change.path, *last, again)
        self.control.kubelet = unit
        return unit

    def answers(self, runtime_socket: str) -> bool:
        """Whether the runtime, restarted, says its version in time. Raises ShimError."""
        self.step("runtime")
        self.handle.allow(ANSWER_S)
        return cri_answers(runtime_socket)

    def undone(self, why: str) -> State:
        """How it ends when it is undone now."""
        return State(self.request.revision, Phase.UNDONE, self.serves, self.step_name, why)

    def fails(self, why: str) -> None:
        """What the undo is to say, from now on. Raises ShimError."""
        keep(self.root, self.undone(why), UNDONE)
