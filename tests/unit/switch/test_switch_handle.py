"""The timer that undoes is held while there is time, and let go when there is none."""

from __future__ import annotations

import _thread
import time
from pathlib import Path
from unittest import mock

import pytest

from shimcore.errors import ShimError
from shimcore.switch import handle as handles
from shimcore.switch.exchange import UNDO
from shimcore.switch.handle import Handle
from shimcore.switch.undo import UNDO_SERVICE, UNDO_TIMER, Before
from shimcore.systemd.units import UNITS
from tests.unit.switch.nodes import node
from tests.unit.systemd.machines import NotedSystemd

BEAT = f"restart {UNDO_TIMER}"
BEFORE = Before(serving=False, process=0, wants=False)


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats within a test."""
    monkeypatch.setattr(handles, "BEAT_S", 0.05)
    monkeypatch.setattr(handles, "CLOSE_S", 0.0)


def test_armed_before_all(tmp_path: Path) -> None:
    """Script and units are there, and the timer runs, when it returns."""
    made, control = node(tmp_path), NotedSystemd()
    Handle(made.root, control).arm(BEFORE, 20)
    assert control.asked == ["daemon-reload", BEAT]
    assert "OnActiveSec=25" in (made.root.text(f"{UNITS}/{UNDO_TIMER}") or "")
    assert made.root.host(UNDO).stat().st_mode & 0o777 == 0o700


def test_held_for_as_long_as_was_allowed(tmp_path: Path) -> None:
    """It is started anew again and again, and then no more."""
    control = NotedSystemd()
    held = Handle(node(tmp_path).root, control)
    held.arm(BEFORE, 20)
    held.allow(0.5)
    time.sleep(1.5)
    beats = control.asked.count(BEAT)
    assert beats > 3
    time.sleep(0.3)
    assert control.asked.count(BEAT) == beats
    held.allow(0)
    time.sleep(0.3)
    assert control.asked.count(BEAT) == beats + 1
    held.let_go()


def test_a_timer_that_cannot_be_held(tmp_path: Path) -> None:
    """It fires, which is safe: the switch is not ended for it."""
    control = NotedSystemd()
    held = Handle(node(tmp_path).root, control)
    held.arm(BEFORE, 20)
    control._fails = BEAT
    held.allow(0)
    held.let_go()


def test_no_thread_to_hold_it(tmp_path: Path) -> None:
    """The switch does not begin; the timer undoes what there is of it."""
    control = NotedSystemd()
    held = Handle(node(tmp_path).root, control)
    refused = RuntimeError("can't start new thread")
    with (
        mock.patch.object(_thread, "start_new_thread", side_effect=refused),
        pytest.raises(ShimError, match=f"{UNDO_TIMER} cannot be held: can't start new thread"),
    ):
        held.arm(BEFORE, 20)
    assert control.asked == ["daemon-reload", BEAT]


def test_pulled(tmp_path: Path) -> None:
    """The undo begins at once, and nothing holds the timer any more."""
    control = NotedSystemd()
    held = Handle(node(tmp_path).root, control)
    held.arm(BEFORE, 20)
    held.allow(60)
    held.pull(5)
    asked = list(control.asked)
    assert asked[-1] == f"start {UNDO_SERVICE}"
    time.sleep(0.2)
    assert control.asked == asked
