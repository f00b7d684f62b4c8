"""A node that is switched by the host's own units, on a real systemd and a real containerd."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import refuse
from tests.e2e.support import stock_node, systemd_tree
from tests.e2e.support import switch_node as nodes
from tests.e2e.support.containerd import DEBIAN
from tests.e2e.support.process import wait_for
from tests.e2e.support.switch_node import SwitchNode, switch_node
from tests.e2e.support.systemd_tree import snapshot

pytestmark = pytest.mark.e2e

PLACES = ("/etc", "/usr/local", "/usr/lib/systemd", "/var/lib/kubelet", "/var/lib/image-cri-shim")
# What is the switch's own, and what a running shim writes whenever it likes.
OWN = (nodes.ROOM, "/var/lib/image-cri-shim/last-good.json", "/var/lib/image-cri-shim/pulls")
DISK = ("etc", "opt", "usr/local", "var/lib/kubelet", "var/lib/image-cri-shim")
BACK_S = 60
UNDO = "image-cri-shim-undo.service"
UNDO_SCRIPT = f"{nodes.ROOM}/undo"
# It takes some seconds, most of which it waits for units.
UNDO_KILLED_AFTER_S = (0.1, 0.4, 1.5, 4.0)
OTHER = nodes.CONFIG_TEXT.replace("sealos.hub:5000", "sealos.hub:5001")


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In place of packages."""
    if missing := [*systemd_tree.missing(), *stock_node.missing(DEBIAN)]:
        refuse("needs " + ", ".join(missing))
    return tmp_path_factory.mktemp("none")


@pytest.fixture(scope="module")
def machine(empty: Path) -> Iterator[SwitchNode]:
    """A node with every version unpacked, on which nothing was switched yet."""
    with switch_node(empty) as booted:
        nodes.unpack(booted, "1.0.0", nodes.IS_HELD)
        nodes.unpack(booted, "2.0.0")
        nodes.unpack(booted, "3.0.0", nodes.DOES_NOT_START)
        nodes.unpack(booted, "4.0.0", nodes.ANSWERS_WRONGLY)
        nodes.unpack(booted, "5.0.0", nodes.IS_KILLED)
        nodes.ask(booted, "1.0.0")
        yield booted


def files(machine: SwitchNode) -> dict[str, Any]:
    """What has to be the same again."""
    found = snapshot(machine, PLACES)
    return {path: what for path, what in found.items() if not path.startswith(OWN)}


def copy(source: Path, place: Path) -> None:
    """With owners and times."""
    place.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", source, place], check=True)


def processes(machine: SwitchNode) -> tuple[str, ...]:
    return tuple(machine.shows(f"{unit}.service", "MainPID") for unit in ("kubelet", "containerd"))


def serving(machine: SwitchNode) -> str:
    """The version that the unit's process is of."""
    pid = machine.shows("image-cri-shim.service", "MainPID")
    words = machine.place(f"/proc/{pid}/environ").read_text(errors="replace")
    assert pid != "0", words
    return machine.place(f"{nodes.VERSIONS}/current").readlink().name


def test_a_whole_life(machine: SwitchNode) -> None:
    """Installed, upgraded, twice undone, killed at some steps, removed: every byte as before."""
    fresh = files(machine)
    _kubelet_that_fails(machine)
    assert _but_modes(files(machine)) == _but_modes(fresh)
    first, took_s = nodes.switched(machine, "1.0.0", config=OTHER)
    print(f"install: {took_s:.1f} s")
    assert (first["phase"], first["version"]) == ("healthy", "1.0.0"), nodes.said(machine).stdout
    said = machine.run("journalctl", "--unit=kubelet", "--lines=3", "-o", "cat").stdout
    assert "asking unix:///var/run/image-cri-shim.sock" in said

    before = processes(machine)
    second, took_s = nodes.switched(machine, "2.0.0")
    print(f"upgrade: {took_s:.1f} s")
    assert (second["phase"], second["version"]) == ("healthy", "2.0.0"), nodes.said(machine).stdout
    assert processes(machine) == before

    _poisoned(machine, "3.0.0")
    _poisoned(machine, "4.0.0")
    assert processes(machine) == before
    _killed(machine)
    _killed_at_once(machine)
    assert processes(machine) == before

    last, took_s = nodes.switched(machine, "2.0.0", mode="remove")
    print(f"removal: {took_s:.1f} s")
    assert (last["phase"], last["version"]) == ("removed", None), nodes.said(machine).stdout
    assert _but_modes(files(machine)) == _but_modes(fresh)
    assert not machine.place(nodes.VERSIONS).exists()
    assert set(machine.place(nodes.ROOM).iterdir()) == {
        machine.place(f"{nodes.ROOM}/{name}") for name in ("request.json", "state.json")
    }


def _kubelet_that_fails(machine: SwitchNode) -> None:
    """It has its runtime's endpoint again, and runs, in time."""
    machine.add("/opt/kubelet-fails", "")
    ended, took_s = nodes.switched(machine, "1.0.0", health_s=8)
    print(f"kubelet never returns: {took_s:.1f} s, {ended['step']}: {ended['detail']}")
    assert (ended["phase"], ended["version"]) == ("undone", None)
    assert took_s < BACK_S
    assert machine.shows("kubelet.service", "ActiveState") == "active"
    assert machine.shows("image-cri-shim.socket", "LoadState") == "not-found"
    assert not machine.place("/run/image-cri-shim.sock").exists()
    machine.place("/opt/kubelet-fails").unlink()


def _but_modes(found: dict[str, Any]) -> dict[str, Any]:
    """The pod has made the state directory, to which the service gives its own mode."""
    return {path: what for path, what in found.items() if path != "/var/lib/image-cri-shim"}


def _poisoned(machine: SwitchNode, version: str) -> None:
    """A version that is not well leaves the old one serving, in time."""
    before = files(machine)
    ended, took_s = nodes.switched(machine, version, config=OTHER)
    print(f"poisoned {version}: {took_s:.1f} s, {ended['step']}: {ended['detail']}")
    assert (ended["phase"], ended["version"]) == ("undone", "2.0.0")
    assert files(machine) == before
    assert took_s < BACK_S
    _is_served(machine, "2.0.0")


def _is_served(machine: SwitchNode, version: str) -> None:
    assert serving(machine) == version
    assert machine.crictl("version").returncode == 0
    shown = machine.run(f"{nodes.VERSIONS}/{version}/image-cri-shim", "status")
    assert "not running" not in shown.stdout, shown.stdout


def _killed(machine: SwitchNode) -> None:
    """At some steps: one that hangs is ended by the timer, one that is killed is undone at once."""
    before = files(machine)
    for number, step in enumerate(("hand over", "link", "units", "health")):
        nodes.ask(machine, "1.0.0", config=OTHER, health_s=8)
        machine.place(f"{nodes.ROOM}/state.json").unlink()
        nodes.hold(machine, step)
        began = time.monotonic()
        nodes.start(machine, "1.0.0")
        nodes.reaches(machine, step)
        nodes.end_switch(machine, "KILL" if number else "STOP")
        over = time.monotonic()
        ended = nodes.ended(machine)
        took_s = time.monotonic() - began
        undone_s = time.monotonic() - over
        print(f"killed at {step}: {took_s:.1f} s, undone {undone_s:.1f} s after")
        assert ended["phase"] == "undone"
        assert files(machine) == before
        assert took_s < BACK_S
        _is_served(machine, "2.0.0")


def _killed_at_once(machine: SwitchNode) -> None:
    """Before anything had changed: nothing is left, and what was last told stays."""
    before, last = files(machine), nodes.state(machine)
    nodes.ask(machine, "5.0.0")
    nodes.start(machine, "5.0.0")
    killed = machine.place("/opt/killed")
    wait_for("its end", lambda: killed.exists() and not machine.place(UNDO_SCRIPT).exists(), 30)
    assert nodes.ended(machine) == last
    assert files(machine) == before
    _is_served(machine, "2.0.0")


@pytest.fixture(scope="module")
def first(empty: Path) -> Iterator[SwitchNode]:
    """A node with one version unpacked."""
    with switch_node(empty) as booted:
        nodes.unpack(booted, "1.0.0", nodes.IS_HELD)
        yield booted


@pytest.mark.parametrize("mode", ["install", "remove"])
def test_an_undo_that_is_killed(first: SwitchNode, mode: str) -> None:
    """Done again, the first time by its own timer, it ends with every byte as before."""
    if mode == "remove":
        nodes.switched(first, "1.0.0")
    else:
        nodes.ask(first, "1.0.0")
    before = _but_modes(files(first))
    for number, after_s in enumerate(UNDO_KILLED_AFTER_S):
        nodes.ask(first, "1.0.0", mode=mode, health_s=8)
        first.place(f"{nodes.ROOM}/state.json").unlink(missing_ok=True)
        nodes.hold(first, "health")
        nodes.start(first, "1.0.0")
        nodes.reaches(first, "health")
        nodes.end_switch(first)
        first.run("systemctl", "--no-block", "start", UNDO, check=True)
        time.sleep(after_s)
        first.run("systemctl", "kill", "--signal=KILL", UNDO)
        if number:
            first.run("systemctl", "start", UNDO)
        ended = nodes.ended(first)
        print(f"undo of {mode} killed after {after_s} s: {ended['phase']}")
        assert ended["phase"] == "undone", nodes.said(first).stdout
        assert _but_modes(files(first)) == before
        assert first.shows("kubelet.service", "ActiveState") == "active"
        said = first.run("journalctl", "--unit=kubelet", "--lines=40", "-o", "cat").stdout
        asked = [line for line in said.splitlines() if line.startswith("asking ")]
        assert asked[-1].endswith("image-cri-shim.sock" if mode == "remove" else "containerd.sock")


def test_a_node_that_goes_down_in_the_midst(empty: Path, tmp_path: Path) -> None:
    """Its next boot begins with what was there before, and kubelet with its runtime.

    /usr/local cannot be written on it, which is no fault.
    """
    disk = tmp_path / "disk"
    with switch_node(empty) as machine:
        machine.sh("mount --bind /usr/local /usr/local && mount -o remount,bind,ro /usr/local")
        nodes.unpack(machine, "1.0.0", nodes.ANSWERS_WRONGLY)
        nodes.ask(machine, "1.0.0")
        fresh = files(machine)
        nodes.start(machine, "1.0.0")
        nodes.reaches(machine, "health")
        nodes.end_switch(machine, "STOP")
        assert nodes.state(machine)["phase"] == "running", nodes.said(machine).stdout
        for path in DISK:
            copy(machine.place(path), disk / path)

    def with_disk(again: SwitchNode) -> None:
        for path in DISK:
            shutil.rmtree(again.unpacked / path, ignore_errors=True)
            copy(disk / path, again.unpacked / path)

    with switch_node(empty, with_disk) as again:
        ended = nodes.ended(again)
        assert (ended["phase"], ended["version"]) == ("undone", None)
        assert "went down" in ended["detail"]
        assert _but_modes(files(again)) == _but_modes(fresh)
        said = again.run("journalctl", "--unit=kubelet", "-o", "cat").stdout
        assert "asking unix:///run/containerd/containerd.sock" in said
        assert "image-cri-shim.sock" not in said
