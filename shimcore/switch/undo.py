"""The undo: a script that needs no Python, and the units that start it.

It ends a switch that is under way: what the journal has is put back, units and all, and the last
step is that `state.json` says so. Where that says already how the switch ended, it only clears away
what the switch needed. Killed at any point, it does the same again.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from shimcore.switch.exchange import LOCK, ROOM, UNDO, VERSIONS
from shimcore.systemd.entries import PARTIAL
from shimcore.systemd.kubelet import UNIT as KUBELET
from shimcore.systemd.root import Root
from shimcore.systemd.units import BYPASS, SERVICE, SOCKET, UNITS

_FOLDER = Path(__file__).with_name("files")
SWITCH_UNIT = "image-cri-shim-switch"
UNDO_SERVICE = "image-cri-shim-undo.service"
UNDO_AT_BOOT = "image-cri-shim-undo-boot.service"
UNDO_TIMER = "image-cri-shim-undo.timer"
WANTS = f"{UNITS}/sysinit.target.wants"
BOOT_LINK = f"{WANTS}/{UNDO_AT_BOOT}"
# What may not start, after a reboot, before it is settled with what.
_STARTED_AFTER = (
    f"{SOCKET} {SERVICE} {KUBELET} containerd.service crio.service docker.service "
    "cri-docker.service k3s.service k3s-agent.service rke2-server.service rke2-agent.service"
)
# Lines of the journal that are no files.
AGAIN, HALT, SETTLE = "again", "halt", "settle"
HALT_DUE, KUBELET_DUE = "due halt", "due kubelet"
"""Noted after the lines that stand for what is to be done, which without them do nothing."""


def starting(command: str) -> tuple[str, ...]:
    """What has systemd start a switch, `command` being that of the bundle.

    When its process has ended, however that came, what it has left is undone or cleared away at
    once; where it was killed before the undo had its units, by the script itself. On a machine that
    goes down the next boot does it.
    """
    left = f"[ ! -e {UNDO} ] || systemctl is-system-running | grep -qx stopping"
    undone = f"systemctl --no-block start {UNDO_SERVICE} || exec /bin/sh {UNDO}"
    return (
        *("systemd-run", f"--unit={SWITCH_UNIT}", "--collect", "--no-block"),
        f"--property=ExecStopPost=-/bin/sh -c '{left} || {undone}'",
        *(command, "switch", "run"),
    )


def read_again(what: str, then: str, *, runs: bool) -> str:
    """The line that has a unit read its files once more; `then` is `restart UNIT`, `reload UNIT`.

    `what`: `unit`, or `kubelet` for that of kubelet, if KUBELET_DUE comes before it. One that
    `runs` is there after, and no other is started.
    """
    verb, unit = then.split(" ")
    verb = "try-restart" if verb == "restart" and not runs else verb
    return f"{what} {shlex.quote(verb)} {shlex.quote(unit)}"


@dataclass(frozen=True, slots=True)
class Before:
    """Whether the shim's socket was there, its process, and whether a boot's wants had a place."""

    serving: bool
    process: int
    wants: bool


def unit_texts(deadline_s: int) -> dict[str, str]:
    """The units, by name: they are on a node while a switch is under way."""
    values = {
        "undo": UNDO,
        "service": UNDO_SERVICE,
        "timer": UNDO_TIMER,
        "room": ROOM,
        "later": _STARTED_AFTER,
        "deadline": str(deadline_s),
    }
    return {name: _filled(name, values) for name in (UNDO_SERVICE, UNDO_AT_BOOT, UNDO_TIMER)}


def script(root: Root, before: Before) -> str:
    """The script, for the paths that this process has."""

    def host(path: str) -> str:
        return shlex.quote(str(root.host(path, last=False)))

    units = [f"{UNITS}/{name}" for name in (UNDO_SERVICE, UNDO_AT_BOOT, UNDO_TIMER)]
    values = {
        "room": host(ROOM),
        "versions": host(VERSIONS),
        "lock": host(LOCK),
        "serving": "yes" if before.serving else "no",
        "process": str(before.process),
        "wants": "" if before.wants else host(WANTS),
    }
    named = {
        "values": "\n".join(f"{name}={value}" for name, value in values.items()),
        "units": " ".join(host(path) for path in (BOOT_LINK, *units)),
        "bypass": BYPASS,
        "service": SERVICE,
        "socket": SOCKET,
        "partial": PARTIAL,
        "timer": UNDO_TIMER,
    }
    return _filled("undo.sh", named)


def _filled(name: str, values: dict[str, str]) -> str:
    """One of `files/`, with each `@word@` replaced."""
    text = (_FOLDER / name).read_text(encoding="utf-8")
    for word, value in values.items():
        text = text.replace(f"@{word}@", value)
    return text
