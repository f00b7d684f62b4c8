"""What a pod shows: labels, readiness; and the files that it shares with the switch."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shimcore.fleet.host import Health
from shimcore.fleet.report import is_ready, label_value, node_labels, state_label
from shimcore.fleet.steps import is_reached
from shimcore.fleet.switchfiles import SwitchFiles
from shimcore.fleet.values import Held, Wanted
from shimcore.switch.exchange import Mode, Phase, Revision, State, SwitchRequest
from tests.support.fleetnode import FOLDER

R1 = Revision("r1")
WANTED = Wanted(R1, Mode.INSTALL, 5, 60, 20, True, True)
STATE = State("r1", Phase.HEALTHY, "1.2.3")
# Kubernetes: "Labels and Selectors", syntax.
_LEGAL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


@given(st.text(max_size=150), st.sampled_from(Health))
def test_every_label_is_legal(version: str, health: Health) -> None:
    """Whatever a version is called; its state is not cut off."""
    assert _LEGAL.fullmatch(label_value(version))
    label = state_label(Mode.INSTALL, "1", replace(STATE, version=version), health)
    assert _LEGAL.fullmatch(label)
    assert label.endswith(health.value)


@pytest.mark.parametrize(
    ("state", "health", "label"),
    [
        (None, None, "waiting"),
        (STATE, Health.HEALTHY, "1.2.3.healthy"),
        (STATE, Health.BYPASSED, "1.2.3.bypassed"),
        (replace(STATE, version="1.2+git"), Health.HEALTHY, "1.2-git.healthy"),
        (replace(STATE, phase=Phase.RUNNING), None, "2.0.0.switching"),
        (replace(STATE, phase=Phase.UNDONE), None, "2.0.0.undone"),
        (replace(STATE, phase=Phase.REFUSED), None, "2.0.0.refused"),
        (replace(STATE, phase=Phase.REMOVED, version=None), None, "removed"),
        (replace(STATE, phase=Phase.UNSUPPORTED), None, "unsupported"),
    ],
)
def test_states(state: State | None, health: Health | None, label: str) -> None:
    """The version that was tried, and what came of it; beside it the one that serves."""
    assert state_label(Mode.INSTALL, "2.0.0", state, health) == label
    serves = node_labels(Mode.INSTALL, "2.0.0", state, health)["image-cri-shim.io/version"]
    assert serves == (label_value(state.version) if state and state.version else None)


def test_ready_is_this_version_in_use() -> None:
    """Not another one, not on the bypass; after a removal, nothing."""
    assert is_ready(WANTED, "1.2.3", STATE, Health.HEALTHY)
    assert not is_ready(WANTED, "1.2.4", STATE, Health.HEALTHY)
    assert not is_ready(WANTED, "1.2.3", STATE, Health.BYPASSED)
    assert not is_ready(WANTED, "1.2.3", replace(STATE, phase=Phase.UNDONE), None)
    assert not is_ready(WANTED, "1.2.3", None, None)
    removal = replace(WANTED, mode=Mode.REMOVE)
    assert is_ready(removal, "1.2.3", None, None)
    assert not is_ready(removal, "1.2.3", STATE, Health.HEALTHY)


def test_a_request_is_as_the_switch_reads_it(tmp_path: Path) -> None:
    """Its keys, and nobody else may read it: it may hold a password."""
    files = SwitchFiles(tmp_path)
    request = SwitchRequest("r1", "1.2.3", Mode.INSTALL, "address: x", True, False, 20, "2026")
    files.ask(request)
    path = tmp_path / FOLDER / "request.json"
    assert json.loads(path.read_text()) == {
        "revision": "r1",
        "version": "1.2.3",
        "mode": "install",
        "config": "address: x",
        "wire_runtime": True,
        "wire_kubelet": False,
        "health_s": 20,
        "at": "2026",
    }
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_state_is_read(tmp_path: Path) -> None:
    """With the revision of a repeated request; none before there was one."""
    files = SwitchFiles(tmp_path)
    assert files.state() is None
    path = tmp_path / FOLDER / "state.json"
    path.parent.mkdir(parents=True)
    said = {"revision": "r1.17", "version": None, "phase": "undone", "step": "x", "detail": "a\nb"}
    path.write_text(json.dumps(said))
    assert files.state() == State("r1.17", Phase.UNDONE, None, "x", "a b")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"revision": "r", "phase": "x"}', "\x00"])
def test_a_state_that_is_none(tmp_path: Path, text: str) -> None:
    """Is of no revision: the node is neither well nor without the shim. A slot like it is none."""
    path = tmp_path / FOLDER / "state.json"
    path.parent.mkdir(parents=True)
    for each in (path, path.with_name("slot.json")):
        each.write_text(text)
    files = SwitchFiles(tmp_path)
    state = files.state()
    assert state is not None
    assert state.revision == ""
    for mode in Mode:
        assert not is_reached(replace(WANTED, mode=mode), state)
    assert files.held() is None


def test_a_folder_behind_a_link(tmp_path: Path) -> None:
    """It is the node's root in which the link leads somewhere, not the pod's."""
    (tmp_path / "data").mkdir()
    (tmp_path / "var/lib").mkdir(parents=True)
    (tmp_path / "var/lib/image-cri-shim").symlink_to("/data")
    SwitchFiles(tmp_path).hold(Held(3, R1, "r0"))
    assert (tmp_path / "data/switch/slot.json").exists()


def test_a_slot_is_passed_on(tmp_path: Path) -> None:
    """To the next pod; afterwards nothing of it is left, when nothing else is there."""
    files = SwitchFiles(tmp_path)
    assert files.held() is None
    files.hold(Held(3, R1, "r0"))
    assert SwitchFiles(tmp_path).held() == Held(3, R1, "r0")
    files.let_go()
    assert files.held() is None
    files.remove()
    assert not (tmp_path / "var/lib/image-cri-shim").exists()
