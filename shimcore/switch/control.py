"""systemd as the switch asks it: what the undo has to do is noted first, and time is allowed."""

from __future__ import annotations

import time
from collections.abc import Sequence

from shimcore.switch.handle import Handle
from shimcore.switch.journal import Journal
from shimcore.systemd.kubelet import UNIT as KUBELET
from shimcore.systemd.systemctl import ServiceControl
from shimcore.systemd.units import SERVICE, SOCKET

UNIT_S = 40.0
"""For a unit of the runtime, or a shim that nobody uses yet, to stop and start."""


class SwitchControl:
    """A `ServiceControl` between the installation and systemd."""

    def __init__(
        self,
        control: ServiceControl,
        journal: Journal,
        handle: Handle,
        health_s: float,
        *,
        serving: bool,
        when_stopped: Sequence[str],
    ) -> None:
        """`when_stopped`: what the undo does in the place of a stop of the shim.

        `health_s`: what kubelet, and a shim that is `serving` it, may take.
        """
        self._control = control
        self._journal = journal
        self._handle = handle
        self._health_s = health_s
        self._shim_s = health_s if serving else UNIT_S
        self._when_stopped = when_stopped
        self.kubelet = KUBELET
        self.touched_at = time.monotonic()
        """When something was done last that the node's pods could notice."""
        self.began_shim = False
        """Whether the service that runs now has read everything as it is now."""

    def run(self, *arguments: str, timeout_s: float | None = None) -> None:
        """Run `systemctl arguments…`. Raises ShimError when it fails or takes too long."""
        verb, *units = arguments
        ours = bool({SOCKET, SERVICE} & set(units))
        if verb == "stop" and ours:
            for line in self._when_stopped:
                self._journal.note(line)
        self.began_shim |= verb in {"start", "restart"} and not self._runs_on(verb, units)
        bound = self._shim_s if ours else self._health_s if self.kubelet in units else UNIT_S
        if units:
            self.touched()
            # By itself the timer leaves the time of health.
            self._handle.allow(bound - self._health_s)
        self._control.run(*arguments, timeout_s=min(bound, timeout_s or bound))

    def touched(self) -> None:
        """Something is done now that the node's pods could notice."""
        self.touched_at = time.monotonic()

    def _runs_on(self, verb: str, units: list[str]) -> bool:
        """Whether a service that runs is only asked to be there."""
        return SERVICE not in units or (verb == "start" and self.is_active(SERVICE))

    def is_active(self, unit: str) -> bool:
        """Whether the unit runs, starts or reloads."""
        return self._control.is_active(unit)
