"""An unpacked node on which switches run, be killed, and be undone by a real shell."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shimcore.switch import health, run, steps, work
from shimcore.switch.exchange import (
    CONFIG,
    CURRENT,
    PROCESS,
    ROOM,
    STATE,
    UNDO,
    VERSIONS,
    Mode,
    State,
    SwitchRequest,
)
from shimcore.switch.handle import Handle
from shimcore.systemd.entries import write
from shimcore.systemd.root import Root
from tests.unit.systemd.machines import FILLED, KUBEADM, NotedSystemd, tree, unpacked

CONTAINERD = {
    "/run/containerd/containerd.sock": "",
    "/etc/containerd/config.toml": "version = 2\n",
}
COMPLETIONS = {"/usr/local/share/fish/vendor_completions.d/image-cri-shim.fish": "# fish\n"}
ASKED = ("systemctl", "sleep")
OTHER = FILLED.replace("sealos.hub", "other.hub")
ENDED = {"request.json", "state.json"}
OURS = "image-cri-shim-bypass.service image-cri-shim.socket image-cri-shim.service"
# Each notes itself, and the one whose turn it is kills the script instead.
STUB = """\
#!/bin/sh
echo "${0##*/} $*" >>"$NOTES"
[ "$(wc -l <"$NOTES")" != "$KILL_AT" ] || { kill -9 "$(cat "$NOTES.pid")"; exit 1; }
[ "$1" != show ] || echo 4321
case "${0##*/}" in systemctl | sleep) exit 0 ;; esac
exec "/bin/${0##*/}" "$@"
"""


class Killed(BaseException):
    """The process was killed; nothing it would do afterwards is done."""


@dataclass(frozen=True, slots=True)
class Node:
    """`tools` has commands that note what they are asked."""

    root: Root
    tools: Path

    @property
    def notes(self) -> list[str]:
        """What the undo has asked of the tools."""
        place = self.tools / "notes"
        return place.read_text().splitlines() if place.exists() else []

    def state(self) -> dict[str, Any]:
        """{} while there is none."""
        text = self.root.text(STATE)
        return {} if text is None else dict(json.loads(text))

    def files(self) -> dict[str, tuple[object, ...]]:
        """Everything but the switch's own."""
        return {path: what for path, what in tree(self.root).items() if not path.startswith(ROOM)}

    def own_files(self) -> set[str]:
        """The names in the switch's room."""
        return set(self.root.names(ROOM))

    def copy(self, directory: Path) -> Node:
        """Another one, the same to the byte."""
        directory.mkdir()
        for place in (self.root.directory, self.tools):
            subprocess.run(["cp", "-a", place, directory], check=True)
        return Node(Root(directory / self.root.directory.name), directory / self.tools.name)

    def undo(self, *words: str, kill_at: int = 0) -> int:
        """Run the script, if it is there; with `kill_at` it is killed at that command."""
        if not self.root.exists(UNDO):
            return 0
        # Else it would end the process of these tests.
        write(self.root, PROCESS, None)
        (self.tools / "notes").unlink(missing_ok=True)
        environment = {
            "PATH": f"{self.tools}:/usr/bin:/bin",
            "NOTES": str(self.tools / "notes"),
            "KILL_AT": str(kill_at),
        }
        # Its own number is known to the tools, of which some are asked by way of timeout(1).
        begun = 'echo $$ >"$NOTES.pid"; exec /bin/sh "$@"'
        command = ["/bin/sh", "-c", begun, "sh", str(self.root.host(UNDO)), *words]
        return subprocess.run(command, env=environment, check=False, capture_output=True).returncode


def node(directory: Path, *, tools: tuple[str, ...] = ASKED) -> Node:
    """One with a kubelet and two versions unpacked."""
    root = unpacked(directory / "root", KUBEADM | CONTAINERD)
    for version in ("1.0.0", "2.0.0"):
        command = f"{VERSIONS}/{version}/image-cri-shim"
        unpacked(root.directory, {command: "#!/bin/sh\n"}).host(command).chmod(0o755)
    for path in (ROOM, "/run/systemd/system", "/etc/systemd/system"):
        root.host(path).mkdir(parents=True)
    room = directory / "tools"
    room.mkdir()
    for name in tools:
        (room / name).write_text(STUB)
        (room / name).chmod(0o755)
    return Node(root, room)


def request(version: str, mode: Mode = Mode.INSTALL, config: str | None = FILLED) -> SwitchRequest:
    """The usual one."""
    return SwitchRequest(f"of-{version}", version, mode, config, True, True, 20)


def systemd(node: Node) -> NotedSystemd:
    """What runs on it: kubelet, the runtime, and the shim if it is installed."""
    active = {"kubelet.service", "containerd.service"}
    if _serves(node):
        active |= {"image-cri-shim.service", "image-cri-shim.socket"}
    return NotedSystemd(active)


def switch(node: Node, asked: SwitchRequest, control: NotedSystemd | None = None) -> State:
    """A switch that begins; what it needed is still there when it ends well."""
    control = control or systemd(node)
    return run.begin(node.root, control, asked, _serves(node), COMPLETIONS, lambda _: None)


def _serves(node: Node) -> str | None:
    link = node.root.host(CURRENT, last=False)
    return os.readlink(link) if link.is_symlink() else None


@pytest.fixture
def well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every node is well, and shows the version that was asked for."""
    nothing: Callable[..., str] = lambda *_: ""  # noqa: E731
    monkeypatch.setattr(run, "main_process", lambda _: 4321)
    monkeypatch.setattr(Handle, "_hold", lambda _: None)
    monkeypatch.setattr(health, "failing_names", set)
    monkeypatch.setattr(health, "why_not_well", nothing)
    monkeypatch.setattr(health, "why_not_before_kubelet", nothing)
    monkeypatch.setattr(steps, "why_kubelet_is_not_well", nothing)
    monkeypatch.setattr(steps.Serving, "is_other_version", lambda _: False)
    monkeypatch.setattr(work, "cri_answers", lambda _: True)


@contextmanager
def killed_at(turn: int, control: NotedSystemd) -> Iterator[list[int]]:
    """Be killed before the `turn`th change of any file and question to systemd.

    Yields the count of those that there were.
    """
    count = [0]

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            count[0] += 1
            if count[0] >= turn:
                raise Killed
            return real(*arguments, **named)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("rename", "unlink", "mkdir", "rmdir", "symlink", "chmod", "open"):
            patch.setattr(os, name, counted(getattr(os, name)))
        patch.setattr(control, "run", counted(control.run))
        yield count


@contextmanager
def killed_at_command(control: NotedSystemd, said: str) -> Iterator[None]:
    """Be killed before systemd is asked that."""
    real = control.run

    def run(*arguments: str, timeout_s: float | None = None) -> None:
        if " ".join(arguments) == said:
            raise Killed
        real(*arguments, timeout_s=timeout_s)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(control, "run", run)
        yield


def installed(directory: Path, *, tools: tuple[str, ...] = ASKED) -> Node:
    """A node on which version 1.0.0 serves."""
    made = node(directory, tools=tools)
    switch(made, request("1.0.0"))
    made.undo()
    assert made.state()["phase"] == "healthy"
    assert CONFIG in made.files()
    return made


def all_but_recorded(made: Node, asked: SwitchRequest, control: NotedSystemd | None = None) -> None:
    """A switch that has done every step when the node goes down."""
    switch(made, asked, control)
    place = made.root.host(STATE)
    text = place.read_text()
    place.write_text(text.replace('"healthy"', '"running"').replace('"removed"', '"running"'))
    assert made.state()["phase"] == "running"


def told(made: Node) -> list[str]:
    """What units were told, the undo's own aside."""
    said = (note.removeprefix("systemctl ") for note in made.notes)
    verbs = ("start", "stop", "restart", "reload")
    return [each for each in said if each.split(" ")[0] in verbs and "undo" not in each]


Made = Callable[..., Node]
WAYS: dict[str, tuple[Made, SwitchRequest]] = {
    "install": (node, request("1.0.0")),
    "upgrade": (installed, request("2.0.0", config=OTHER)),
    "remove": (installed, request("1.0.0", Mode.REMOVE)),
}
