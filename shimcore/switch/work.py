"""What the steps of one switch work with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from shimcore.switch.control import SwitchControl
from shimcore.switch.handle import Handle
from shimcore.switch.health import Wanted
from shimcore.switch.journal import JournaledRoot
from shimcore.switch.places import UNDONE
from shimcore.switch.request import SwitchRequest
from shimcore.switch.state import Phase, State, keep
from shimcore.systemd.root import Root

STEP_S = 20.0
"""For a step that has no bound of its own."""


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

    def fails(self, why: str) -> State:
        """What the undo is to say, from now on. Raises ShimError."""
        state = State(self.request.revision, Phase.UNDONE, self.serves, self.step_name, why)
        keep(self.root, state, UNDONE)
        return state
