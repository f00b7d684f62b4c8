"""Whatever ends a switch, and wherever: the node is as it was, or as it was to be."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from shimcore.switch import health
from shimcore.switch.exchange import (
    CONFIG,
    CURRENT,
    HANDING,
    LOCK,
    UNDO,
    VERSIONS,
    Mode,
    SwitchRequest,
)
from tests.unit.switch.nodes import (
    ASKED,
    COMPLETIONS,
    ENDED,
    OURS,
    WAYS,
    Killed,
    Node,
    all_but_recorded,
    installed,
    killed_at,
    killed_at_command,
    node,
    request,
    switch,
    systemd,
    told,
    well,
)
from tests.unit.systemd.machines import FILLED, NotedSystemd, unpacked

__all__ = ["well"]
pytestmark = pytest.mark.usefixtures("well")
TOOLS = (*ASKED, "cp", "mv", "rm", "rmdir", "sync")
# 1: at each point, which takes minutes.
STRIDE = int(os.environ.get("SWITCH_STRIDE", "17"))


def test_a_switch_that_is_well(tmp_path: Path) -> None:
    """The version serves, and nothing is left of the switch."""
    made = installed(tmp_path)
    assert made.own_files() <= ENDED
    assert made.state()["version"] == "1.0.0"
    assert not [path for path in made.files() if "undo" in path]
    assert os.readlink(made.root.host(CURRENT, last=False)) == "1.0.0"
    assert made.root.text(CONFIG) == FILLED


def test_a_removal_leaves_what_was_there_before(tmp_path: Path) -> None:
    """The versions are gone, too; how it ended can be read."""
    fresh = node(tmp_path / "fresh").files()
    made = installed(tmp_path)
    assert switch(made, request("1.0.0", Mode.REMOVE)).phase == "removed"
    assert made.undo() == 0
    assert made.files() == {path: what for path, what in fresh.items() if "/opt/image" not in path}
    assert (made.own_files(), made.state()["version"]) == ({"state.json"}, None)


def test_a_removal_leaves_an_environment_of_pips(tmp_path: Path) -> None:
    """The one that the README's first step makes in the same folder."""
    made = installed(tmp_path)
    theirs = {f"{VERSIONS}/bin/image-cri-shim": "", f"{VERSIONS}/pyvenv.cfg": ""}
    unpacked(made.root.directory, theirs | {f"{VERSIONS}/.unfinished-3.0.0/image-cri-shim": ""})
    assert switch(made, request("1.0.0", Mode.REMOVE)).phase == "removed"
    assert made.undo() == 0
    left = {path for path in made.files() if path.startswith(f"{VERSIONS}/")}
    assert left == {*theirs, f"{VERSIONS}/bin"}


@pytest.mark.parametrize("way", WAYS)
def test_killed_anywhere(way: str, tmp_path: Path) -> None:
    """The undo brings back every byte; after an end that was recorded it only clears away."""
    make, asked = WAYS[way]
    first, turn = make(tmp_path), 1
    while True:
        made = first.copy(tmp_path / str(turn))
        before, said = made.files(), made.state()
        survived = _survived(made, asked, turn)
        whole, armed = made.files(), made.root.exists(UNDO)
        assert made.undo() == 0, turn
        if made.state() == said or made.state()["phase"] == "undone":
            assert made.files() == before, turn
        else:
            assert _without_units(made.files(), whole), turn
        assert not armed or made.own_files() <= ENDED, turn
        if survived:
            break
        turn += STRIDE
    assert turn > 60
    assert made.state()["phase"] in {"healthy", "removed"}


def _survived(made: Node, asked: SwitchRequest, turn: int) -> bool:
    control = systemd(made)
    with killed_at(turn, control):
        try:
            switch(made, asked, control)
        except Killed:
            return False
    return True


def _without_units(now: Mapping[str, object], then: Mapping[str, object]) -> bool:
    """Whether nothing but the undo's units and, after a removal, the versions is gone."""
    gone = {path for path in then if path not in now}
    return all("undo" in path or "sysinit" in path or "/opt/image" in path for path in gone) and (
        now.items() <= then.items()
    )


@pytest.mark.parametrize("way", WAYS)
def test_an_undo_that_is_killed_is_done_again(way: str, tmp_path: Path) -> None:
    """Wherever it was killed, the next one brings back every byte."""
    make, asked = WAYS[way]
    first, turn, status = make(tmp_path, tools=TOOLS), 1, -9
    while status:
        made = first.copy(tmp_path / str(turn))
        before = made.files()
        all_but_recorded(made, asked)
        status = made.undo(kill_at=turn)
        assert made.undo() == 0
        assert made.files() == before, turn
        assert made.state()["phase"] == "undone"
        assert made.own_files() <= ENDED
        turn += STRIDE
    assert turn > 20


def test_what_is_told_by_the_undo_of_an_install(tmp_path: Path) -> None:
    """The runtime, then kubelet, and the shim ends when kubelet has left it."""
    made = node(tmp_path)
    all_but_recorded(made, request("1.0.0"))
    made.undo()
    assert told(made)[:3] == [
        "restart containerd.service",
        "restart kubelet.service",
        f"stop {OURS}",
    ]


def test_a_runtime_that_does_not_run(tmp_path: Path) -> None:
    """Nothing is started that was not there: of RKE2 it could be a server on an agent."""
    made = node(tmp_path)
    all_but_recorded(made, request("1.0.0"), NotedSystemd({"kubelet.service"}))
    made.undo()
    assert "systemctl try-restart containerd.service" in made.notes
    assert not [each for each in told(made) if "containerd" in each]


# The first time that it is asked, no unit is active.
_DOWN_ONCE = """\
#!/bin/sh
echo "systemctl $*" >>"$NOTES"
[ "$1 $2" = "--quiet is-active" ] || exit 0
[ "$(grep -c is-active "$NOTES")" != 1 ]
"""


def test_a_kubelet_that_ends_with_its_runtimes_start(tmp_path: Path) -> None:
    """It is restarted at once, not left alone for the time of its unit."""
    made = node(tmp_path)
    all_but_recorded(made, request("1.0.0"))
    (made.tools / "systemctl").write_text(_DOWN_ONCE)
    made.undo()
    assert [each for each in told(made) if "kubelet" in each] == ["restart kubelet.service"] * 2
    assert made.state()["phase"] == "undone"


def test_what_is_told_by_the_undo_of_a_removal(tmp_path: Path) -> None:
    """The shim is there, and the runtime knows the registries, before kubelet comes back."""
    made = installed(tmp_path)
    all_but_recorded(made, request("1.0.0", Mode.REMOVE))
    made.undo()
    assert told(made)[:3] == [
        "start image-cri-shim.socket image-cri-shim.service",
        "restart containerd.service",
        "restart kubelet.service",
    ]


def test_what_is_told_when_kubelet_was_not_reached(tmp_path: Path) -> None:
    """A switch that ended before kubelet changed leaves that alone."""
    made = node(tmp_path)
    control = systemd(made)
    with killed_at_command(control, "start image-cri-shim.socket"), pytest.raises(Killed):
        switch(made, request("1.0.0"), control)
    made.undo()
    said = told(made)
    assert said[0] == "restart containerd.service"
    assert f"stop {OURS}" in said
    assert not [each for each in said if "kubelet" in each]


@pytest.mark.parametrize("handing", [False, True])
def test_an_upgrade_leaves_kubelet_and_the_runtime_alone(handing: bool, tmp_path: Path) -> None:
    """The shim alone is started anew, and only where it may have made way."""
    made = installed(tmp_path)
    all_but_recorded(made, request("2.0.0"))
    if handing:
        made.root.host(HANDING).touch()
    made.undo()
    verb = "restart" if handing else "reload"
    asked = [note for note in made.notes if f"{verb} image-cri-shim.service" in note]
    assert asked == [f"systemctl {verb} image-cri-shim.service"]
    assert not [note for note in made.notes if "kubelet" in note or "containerd" in note]
    assert os.readlink(made.root.host(CURRENT, last=False)) == "1.0.0"
    assert made.state()["version"] == "1.0.0"
    assert made.own_files() <= ENDED


def test_what_the_service_has_made(tmp_path: Path) -> None:
    """The locks of its sockets go with a first installation, and stay with an upgrade."""
    locks = [f"/run/image-cri-shim.sock{end}.lock" for end in ("", ".admin")]
    for made, asked in ((node, "1.0.0"), (installed, "2.0.0")):
        one = made(tmp_path / asked)
        before = one.files()
        all_but_recorded(one, request(asked))
        for path in locks:
            one.root.host(path).touch()
        one.undo()
        left = {path for path in locks if one.root.exists(path)}
        assert left == (set() if asked == "1.0.0" else set(locks))
        assert {k: v for k, v in one.files().items() if k not in locks} == before


def test_the_lock_of_a_switch_that_was_killed(tmp_path: Path) -> None:
    """It goes, unless another switch has it."""
    for held in (False, True):
        one = node(tmp_path / str(held))
        all_but_recorded(one, request("1.0.0"))
        place = one.root.host(LOCK)
        with place.open("w") as file:
            if held:
                fcntl.flock(file, fcntl.LOCK_EX)
            one.undo()
        assert place.exists() == held


def test_at_boot_nothing_is_waited_for(tmp_path: Path) -> None:
    """What a boot starts by itself is not started before its turn."""
    made = installed(tmp_path)
    before = made.files()
    all_but_recorded(made, request("1.0.0", Mode.REMOVE))
    assert made.undo("boot") == 0
    assert made.files() == before
    waiting = [each for each in made.notes if "daemon-reload" not in each]
    assert all("--no-block" in each for each in waiting)


def test_a_failure_says_which_step_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the state that the undo leaves behind."""
    monkeypatch.setattr(health, "why_not_well", lambda *_: "version 0 serves, not 1.0.0")
    made = node(tmp_path)
    before = made.files()
    ended = switch(made, request("1.0.0"))
    assert ended.phase == "undone"
    made.undo()
    assert made.files() == before
    said = made.state()
    assert (said["phase"], said["step"], said["version"]) == ("undone", "health", None)
    assert said["detail"] == "not well within 20 s: version 0 serves, not 1.0.0"


def test_what_a_file_is_beside_its_bytes(tmp_path: Path) -> None:
    """Owner, mode, time and extended attributes are as they were, of links, too."""
    made = node(tmp_path)
    place = made.root.host("/var/lib/kubelet/config.yaml")
    place.chmod(0o640)
    os.utime(place, ns=(0, 1_000_000_007))
    if os.geteuid() == 0:
        os.chown(place, 12, 34)
    try:
        os.setxattr(place, "user.label", b"kubelet_t")
    except OSError:
        pytest.skip("this file system has no extended attributes")
    all_but_recorded(made, request("1.0.0"))
    made.undo()
    status = place.stat()
    assert (status.st_mode & 0o7777, status.st_mtime_ns) == (0o640, 1_000_000_007)
    if os.geteuid() == 0:
        assert (status.st_uid, status.st_gid) == (12, 34)
    assert os.getxattr(place, "user.label") == b"kubelet_t"


def test_what_cannot_be_kept_does_not_change(tmp_path: Path) -> None:
    """A pipe in the place of a file ends the switch before it."""
    made = node(tmp_path)
    place = made.root.host(next(iter(COMPLETIONS)))
    place.parent.mkdir(parents=True)
    os.mkfifo(place)
    before = made.files()
    assert "not a regular file" in switch(made, request("1.0.0")).detail
    made.undo()
    assert made.files() == before
