"""What follows from what a pod knows."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shimcore.fleet.steps import PATIENCE_S, SWITCH_S, Facts, Step, next_step
from shimcore.fleet.values import Held, Wanted
from shimcore.switch.exchange import Mode, Phase, Revision, State

OLD, NEW = Revision("r1"), Revision("r2")
WANTED = Wanted(NEW, Mode.INSTALL, 5, 60, 20, True, True)
FRESH = Facts(NEW, WANTED, None, None, frozenset(), recorded=False)
HELD = Held(0, NEW)


def state(phase: Phase, revision: Revision = NEW) -> State:
    return State(revision, phase, "1.0.0")


HEALTHY = state(Phase.HEALTHY)
UNREADY = replace(FRESH, held=HELD, state=HEALTHY, unwell_s=PATIENCE_S + 1, unready_before=True)
DRIFTED = replace(FRESH, state=HEALTHY, recorded=True, drifted=True)
facts = st.builds(
    Facts,
    pod=st.sampled_from([OLD, NEW]),
    wanted=st.sampled_from([WANTED, replace(WANTED, mode=Mode.REMOVE)]),
    state=st.none() | st.builds(state, st.sampled_from(Phase), st.sampled_from([OLD, NEW])),
    held=st.none() | st.builds(Held, st.integers(0, 63), st.sampled_from([OLD, NEW])),
    halted=st.frozensets(st.sampled_from([OLD, NEW])),
    recorded=st.booleans(),
    drifted=st.booleans(),
    begun_s=st.none() | st.floats(0, 1000),
    well_s=st.none() | st.floats(0, 200),
    unwell_s=st.floats(0, 300),
    unready_before=st.booleans(),
)


@pytest.mark.parametrize(
    ("known", "step"),
    [
        (FRESH, Step.QUEUE),
        (replace(FRESH, held=HELD), Step.BEGIN),
        (replace(FRESH, held=HELD, begun_s=1), Step.WATCH),
        (replace(FRESH, held=HELD, state=state(Phase.RUNNING)), Step.WATCH),
        (replace(FRESH, held=HELD, begun_s=SWITCH_S + 21), Step.HALT),
        (replace(FRESH, held=HELD, state=HEALTHY), Step.SOAK),
        (replace(FRESH, held=HELD, state=HEALTHY, well_s=59), Step.SOAK),
        (replace(FRESH, held=HELD, state=HEALTHY, well_s=60), Step.RECORD),
        (replace(FRESH, held=HELD, state=HEALTHY, unwell_s=PATIENCE_S + 1), Step.HALT),
        (UNREADY, Step.RELEASE),
        (replace(UNREADY, held=None), Step.SOAK),
        (replace(UNREADY, well_s=60), Step.RECORD),
        (replace(FRESH, state=HEALTHY, recorded=True), Step.REST),
        (replace(FRESH, state=HEALTHY, recorded=True, drifted=True), Step.QUEUE),
        (replace(DRIFTED, held=Held(0, NEW, HEALTHY.run)), Step.BEGIN),
        (replace(DRIFTED, held=Held(0, NEW, "r1")), Step.SOAK),
        (replace(DRIFTED, held=Held(0, NEW, "r1"), unwell_s=PATIENCE_S + 1), Step.HALT),
        (replace(DRIFTED, halted=frozenset({NEW})), Step.HALTED),
        (replace(FRESH, held=HELD, state=state(Phase.UNDONE)), Step.HALT),
        (replace(FRESH, held=HELD, state=state(Phase.REFUSED)), Step.HALT),
        (replace(FRESH, state=state(Phase.UNDONE), halted=frozenset({NEW})), Step.HALTED),
        (replace(FRESH, state=state(Phase.UNDONE, OLD)), Step.QUEUE),
        (replace(FRESH, pod=OLD), Step.STALE),
        (replace(FRESH, held=Held(7, OLD), state=state(Phase.HEALTHY, OLD)), Step.RELEASE),
        (replace(FRESH, held=Held(7, OLD), state=state(Phase.UNDONE, OLD)), Step.HALT),
        (replace(FRESH, pod=OLD, wanted=replace(WANTED, mode=Mode.REMOVE)), Step.RECORD),
    ],
)
def test_what_follows(known: Facts, step: Step) -> None:
    """Situation by situation."""
    assert next_step(known) is step


@given(facts)
def test_a_switch_begins_only_in_order(known: Facts) -> None:
    """With a slot taken for it, of a revision that is wanted, this pod's and not halted."""
    if next_step(known) is not Step.BEGIN:
        return
    wanted = known.wanted
    assert known.held is not None
    assert known.held.revision == wanted.revision
    assert wanted.revision not in known.halted
    assert wanted.mode is Mode.REMOVE or known.pod == wanted.revision
    assert known.begun_s is None
    assert known.state is None or known.state.phase is not Phase.RUNNING
    if known.state is not None and known.state.revision == wanted.revision:
        assert known.state.phase not in {Phase.UNDONE, Phase.REFUSED}


@given(facts)
def test_a_failure_is_said_before_the_slot_is_free(known: Facts) -> None:
    """A node with a slot whose switch failed does nothing before that is written."""
    held, said = known.held, known.state
    over = known.begun_s is None
    if held is None or said is None or not over or said.revision != held.revision:
        return
    if said.phase in {Phase.UNDONE, Phase.REFUSED} and held.revision not in known.halted:
        assert next_step(known) is Step.HALT


@given(facts)
def test_nobody_waits_for_ever_with_a_slot(known: Facts) -> None:
    """A node that rests, or may not begin, has none or gives it back."""
    if next_step(known) in {Step.QUEUE, Step.REST}:
        assert known.held is None
