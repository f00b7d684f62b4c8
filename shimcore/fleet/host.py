"""The node around the pod: what it is, how the shim is there, and having its systemd do things.

The node's root is mounted in the pod. Its systemd is asked by its own commands, in its own root;
for that the pod has SYS_CHROOT and sees the node's processes (hostPID), and needs nothing more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from shimcore.childprocess import output_of
from shimcore.errors import ShimError
from shimcore.fleet.values import FleetError
from shimcore.switch.exchange import CONFIG, VERSIONS, version_directory
from shimcore.switch.preconditions import closed_system
from shimcore.switch.undo import SWITCH_UNIT, starting
from shimcore.systemd.command import NAME
from shimcore.systemd.kubelet_way import Way, kubelet_way
from shimcore.systemd.packaged import PLACES
from shimcore.systemd.places import shim_socket
from shimcore.systemd.root import Root
from shimcore.systemd.units import BYPASS, SERVICE

COMMAND_S = 60.0
_READ_BYTES = 1 << 20
_OUTPUT_LIMIT = 4096


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


Run = Callable[..., Awaitable[Done]]
"""Runs the words of a command in the node's root, to its end. Raises FleetError."""


async def chrooted(root: Path, *words: str) -> Done:
    """Run a command in a node's root that is mounted at `root`.

    Raises FleetError where it cannot be run, or takes too long.
    """
    command = ("chroot", str(root), *words)
    try:
        output, status = await output_of(
            command, limit_bytes=_READ_BYTES, timeout_s=COMMAND_S, with_errors=True
        )
    except TimeoutError as error:
        raise FleetError(f"{' '.join(words)}: not done after {COMMAND_S:.0f} s") from error
    except OSError as error:
        raise FleetError(f"chroot: {error.strerror}") from error
    # One that prints without end was killed: that is no success.
    return Done(1 if status is None else status, output[:_OUTPUT_LIMIT].decode(errors="replace"))


class Host:
    """The node. Methods raise FleetError."""

    def __init__(self, root: Path, run: Run) -> None:
        self._root = Root(root)
        self._run = run

    @property
    def bundles(self) -> Path:
        """Where the versions are."""
        return self._root.host(VERSIONS)

    def unsupported(self) -> str:
        """Why the shim does not belong here; empty where it does."""
        try:
            system = closed_system(self._root)
            booted = self._root.exists("/run/systemd/system")  # sd_booted(3)
        except ShimError as error:
            raise FleetError(str(error)) from error
        if system:
            return f"{system} is configured from outside, and not changed by pods"
        return "" if booted else "systemd does not run this node"

    def has_package(self) -> bool:
        """Whether a .deb or .rpm brought the shim: its package manager has it in hand."""
        return any(self._root.exists(f"{place}/{SERVICE}") for place in PLACES)

    async def health(self, *, wire_kubelet: bool) -> Health:
        """How the shim is, by its units and kubelet's files. A registry has no part in it."""
        done = await self._run("systemctl", "is-active", BYPASS, SERVICE)
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
            return kubelet_way(self._root, shim_socket(self._root, CONFIG)).way is Way.NOT_WIRED
        except ShimError:
            return False  # nobody can say; the switch's own checks see it

    async def is_switching(self) -> bool:
        """Whether the switch's unit runs."""
        done = await self._run("systemctl", "is-active", f"{SWITCH_UNIT}.service")
        return done.output.strip() in {"active", "activating", "reloading"}

    async def begin(self, version: str) -> None:
        """Have the node's systemd start the switch, outside of this pod."""
        done = await self._run(*starting(f"{version_directory(version)}/{NAME}"))
        # By name: of two pods that overlap, the second finds the switch of the first under way.
        if done.status and not await self.is_switching():
            said = " ".join(done.output.split())
            raise FleetError(f"systemd-run: {said or f'exit status {done.status}'}")
