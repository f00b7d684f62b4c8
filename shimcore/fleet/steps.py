"""What a pod does next on its node. No I/O: facts go in, a step comes out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from shimcore.fleet.values import Held, Wanted
from shimcore.switch.exchange import FAILED, Mode, Phase, Revision, State

PATIENCE_S = 180.0
"""How long a node that has switched may be unwell before the roll-out is halted for it."""


class Step(Enum):
    """The next thing to do."""

    REST = "rest"
    """The node is as wanted, and recorded."""
    STALE = "stale"
    """Another revision is wanted than this pod's; its successor will see to it."""
    HALTED = "halted"
    QUEUE = "queue"
    """A switch is due; a slot is needed first."""
    BEGIN = "begin"
    WATCH = "watch"
    """A switch is under way."""
    SOAK = "soak"
    RECORD = "record"
    """The node has been well for long enough."""
    HALT = "halt"
    """The switch, or the node after it, failed: say so before the slot is given back."""
    RELEASE = "release"
    """The slot was taken for a revision that is no longer wanted."""


SWITCH_S = 240.0
"""How long a switch may take beside its time for health; undoing is part of it."""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a step depends on."""

    pod: Revision
    wanted: Wanted
    state: State | None
    held: Held | None
    halted: frozenset[Revision]
    recorded: bool
    """Whether the API server knows this node to be well with the wanted revision."""
    drifted: bool = False
    """Whether somebody else has taken the wiring away."""
    begun_s: float | None = None
    """How long a switch that was asked for here has been under way; None where none is."""
    well_s: float | None = None
    """How long the node has been well, without a break; None while it is not."""
    unwell_s: float = 0.0
    unready_before: bool = False
    """Whether all that is unwell is that the node is not Ready, as it was before its switch."""


def next_step(facts: Facts) -> Step:
    """The step that follows from the facts."""
    state, wanted, held = facts.state, facts.wanted, facts.held
    if facts.begun_s is not None or (state is not None and state.phase is Phase.RUNNING):
        return Step.HALT if _hangs(facts) else Step.WATCH
    if held is not None and _failed(facts, held.revision):
        return Step.HALT
    if held is not None and held.revision != wanted.revision:
        return Step.RELEASE
    if wanted.mode is Mode.INSTALL and facts.pod != wanted.revision:
        return Step.STALE
    if is_reached(wanted, state) and (not facts.drifted or _has_switched(facts)):
        return _after_switch(facts)
    return _before_switch(facts)


def is_reached(wanted: Wanted, state: State | None) -> bool:
    """Whether the node's switch has brought about what is wanted."""
    if state is None:
        return wanted.mode is Mode.REMOVE
    if state.revision != wanted.revision:
        return False
    good = Phase.HEALTHY if wanted.mode is Mode.INSTALL else Phase.REMOVED
    return state.phase is good


def failed_revision(facts: Facts) -> Revision:
    """The revision that a HALT is for."""
    return facts.wanted.revision if facts.held is None else facts.held.revision


def _failed(facts: Facts, revision: Revision) -> bool:
    """Whether this node's switch to a revision failed, and nobody has been told yet."""
    state = facts.state
    if state is None or state.revision != revision or revision in facts.halted:
        return False
    return state.phase in FAILED


def _hangs(facts: Facts) -> bool:
    """Whether a switch has neither ended nor been undone in its time."""
    longest_s = facts.wanted.health_s + SWITCH_S
    hangs = facts.begun_s is not None and facts.begun_s > longest_s
    return hangs and failed_revision(facts) not in facts.halted


def _has_switched(facts: Facts) -> bool:
    """Whether this slot has been used: what is not well then is not mended by the same again."""
    held, state = facts.held, facts.state
    return held is not None and state is not None and state.run != held.before


def _before_switch(facts: Facts) -> Step:
    revision = facts.wanted.revision
    if _failed(facts, revision):
        return Step.HALT
    if revision in facts.halted:
        return Step.HALTED
    return Step.QUEUE if facts.held is None else Step.BEGIN


def _after_switch(facts: Facts) -> Step:
    if facts.recorded and facts.held is None:
        return Step.REST
    if facts.wanted.mode is Mode.REMOVE and facts.state is None:
        return Step.RECORD  # nothing was ever there
    if facts.well_s is not None and facts.well_s >= facts.wanted.soak_s:
        return Step.RECORD
    if facts.unwell_s > PATIENCE_S and facts.unready_before:
        return Step.SOAK if facts.held is None else Step.RELEASE
    if facts.unwell_s > PATIENCE_S and facts.wanted.revision not in facts.halted:
        return Step.HALT
    return Step.SOAK
