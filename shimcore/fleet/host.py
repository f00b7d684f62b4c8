"""The node around the pod: what it is, how the shim is there, and having its systemd do things.

The node's root is mounted in the pod. Its systemd is asked by its own commands, in its own root;
for that the pod has SYS_CHROOT and sees the node's processes (hostPID), and needs nothing more.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from shimcore.errors import ShimError
from shimcore.fleet.bundle import COMMAND, PLACE
from shimcore.fleet.errors import FleetError
from shimcore.systemd.install import DEFAULT_SHIM
from shimcore.systemd.kubelet_way import Way, kubelet_way
from shimcore.systemd.root import Root
from shimcore.systemd.units import BYPASS, SERVICE
from shimcore.systemd.yamltext import YamlTextError, get_keys

CONFIG_FILE = "/etc/image-cri-shim.yaml"
SWITCH_UNIT = "image-cri-shim-switch"
COMMAND_S = 60.0
_OUTPUT_LIMIT = 4096
_PACKAGE_UNITS = ("/usr/lib/systemd/system", "/lib/systemd/system")
# By os-release(5), ID: a system that is not changed from inside, and has no shell to help.
_FOREIGN = {"talos": "Talos", "bottlerocket": "Bottlerocket"}


class Health(StrEnum):
    """How the shim is on a node, as its label says."""

    HEALTHY = "healthy"
    BYPASSED = "bypassed"
    FAILING = "failing"
    UNWIRED = "unwired"


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    status: int
    output: str


class Commands(Protocol):
    """Runs commands in the node's root."""

    async def run(self, *words: str) -> Done:
        """Run it to its end. Raises FleetError where it cannot be run."""


class ChrootCommands:
    """Those of a node whose root is mounted at `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def run(self, *words: str) -> Done:
        """Run it to its end. Raises FleetError where it cannot be run, or takes too long."""
        try:
            process = await asyncio.create_subprocess_exec(
                "chroot",
                str(self._root),
                *words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
        except OSError as error:
            raise FleetError(f"chroot: {error.strerror}") from error
        try:
            async with asyncio.timeout(COMMAND_S):
                output, _ = await process.communicate()
        except TimeoutError as error:
            raise FleetError(f"{' '.join(words)}: not done after {COMMAND_S:.0f} s") from error
        finally:
            if process.returncode is None:
                process.kill()
        return Done(process.returncode or 0, output[:_OUTPUT_LIMIT].decode(errors="replace"))


class Host:
    """The node. Methods raise FleetError."""

    def __init__(self, root: Path, commands: Commands) -> None:
        self.path = root
        self._root = Root(root)
        self._commands = commands

    @property
    def bundles(self) -> Path:
        """Where the versions are."""
        return self._root.host(str(PLACE))

    def unsupported(self) -> str:
        """Why the shim does not belong here; empty where it does."""
        try:
            kind = _os_id(self._root.text("/etc/os-release") or "")
            booted = self._root.exists("/run/systemd/system")  # sd_booted(3)
        except ShimError as error:
            raise FleetError(str(error)) from error
        if kind in _FOREIGN:
            return f"{_FOREIGN[kind]} is configured from outside, and not changed by pods"
        return "" if booted else "systemd does not run this node"

    def has_package(self) -> bool:
        """Whether a .deb or .rpm brought the shim: its package manager has it in hand."""
        return any(self._root.exists(f"{place}/{SERVICE}") for place in _PACKAGE_UNITS)

    async def health(self, *, wire_kubelet: bool) -> Health:
        """How the shim is, by its units and kubelet's files. A registry has no part in it."""
        done = await self._commands.run("systemctl", "is-active", BYPASS, SERVICE)
        bypass, _, service = done.output.strip().partition("\n")
        if bypass in {"active", "activating"}:
            return Health.BYPASSED
        if service not in {"active", "reloading"}:
            return Health.FAILING
        if wire_kubelet and self.is_unwired():
            return Health.UNWIRED
        return Health.HEALTHY

    def is_unwired(self) -> bool:
        """Whether kubelet's files lead past the shim, as after `kubeadm upgrade`."""
        try:
            text = self._root.text(CONFIG_FILE) or ""
            socket = get_keys(text, ("shim",))["shim"] or DEFAULT_SHIM
            socket = socket.removeprefix("unix://")
            return kubelet_way(self._root, socket).way is Way.NOT_WIRED
        except (ShimError, YamlTextError):
            return False  # nobody can say; the switch's own checks see it

    async def is_switching(self) -> bool:
        """Whether the switch's unit runs."""
        done = await self._commands.run("systemctl", "is-active", f"{SWITCH_UNIT}.service")
        return done.output.strip() in {"active", "activating", "reloading"}

    async def begin(self, version: str) -> None:
        """Have the node's systemd start the switch, outside of this pod."""
        done = await self._commands.run(
            "systemd-run",
            f"--unit={SWITCH_UNIT}",
            "--collect",
            "--no-block",
            str(PLACE / version / COMMAND),
            "switch",
            "run",
        )
        if done.status:
            said = " ".join(done.output.split())
            raise FleetError(f"systemd-run: {said or f'exit status {done.status}'}")


def _os_id(text: str) -> str:
    for line in text.splitlines():
        name, _, value = line.partition("=")
        if name == "ID":
            return value.strip().strip("\"'").lower()
    return ""
