"""Asks the running shim to hand over to another command: an upgrade without a gap."""

from __future__ import annotations

import os
from dataclasses import dataclass

from shimcore import __version__
from shimcore.client.admin import Endpoint, StartingError, UnknownCallError, ask, is_there
from shimcore.errors import AdminError
from shimcore.systemd.systemctl import ServiceControl
from shimcore.systemd.units import SERVICE

# The new process has two minutes until the runtime has answered it, and then some.
HANDED_OVER_S = 150.0
RESTART_S = 90.0
PREPARED_S = 30.0
"""For some hundred modules, a second's work, on a node that is busy."""


class RestartNeededError(AdminError):
    """The process that runs cannot hand over; it can only be restarted."""


class HandOverFailedError(AdminError):
    """The new process did not serve; the text says whether the one before goes on."""


class UnpreparedError(AdminError):
    """The process that runs may need files that an upgrade replaces."""


def prepare(endpoint: Endpoint) -> str:
    """Have the running process load what it may still need; what was done, as a line.

    Raises UnpreparedError, UnknownCallError, AdminError.
    """
    if not is_there(endpoint):
        return "nothing to prepare: no service runs"
    answer = ask(endpoint.admin_socket, "Prepare", PREPARED_S)
    if answer.failure:
        raise UnpreparedError(answer.failure)
    return f"{SERVICE} needs its files no more: {answer.modules} modules are loaded"


@dataclass(frozen=True, slots=True)
class HandedOver:
    """The process that serves now."""

    pid: int
    version: str

    def __str__(self) -> str:
        return (
            f"{SERVICE} handed over to version {self.version} (process {self.pid}); "
            "calls that were under way end in the process before"
        )


@dataclass(frozen=True, slots=True)
class RunningService:
    """The service at `endpoint`, and `command`, which may take its place."""

    endpoint: Endpoint
    command: str

    def is_other_version(self) -> bool:
        """Whether what runs is not of this version; no when it does not say."""
        try:
            if not is_there(self.endpoint):
                return False
            answer = ask(self.endpoint.admin_socket, "Status")
        except AdminError:
            return False
        return bool(answer.shim_version != __version__)

    def hand_over(self) -> HandedOver:
        """Have the command serve in the running process's place.

        Raises RestartNeededError, HandOverFailedError, AdminError.
        """
        at, socket = self.endpoint, self.endpoint.admin_socket
        if not is_there(at):
            raise RestartNeededError(f"nothing listens at {socket}")
        if at.named_shim and os.path.realpath(at.named_shim) != os.path.realpath(at.shim_socket):
            raise RestartNeededError(f"{at.file} has another shim by now: {at.named_shim}")
        try:
            answer = ask(socket, "HandOver", HANDED_OVER_S, command=self.command)
        except (StartingError, UnknownCallError) as error:
            raise RestartNeededError(str(error)) from error
        if answer.impossible:
            raise RestartNeededError(answer.impossible)
        if answer.failure:
            raise HandOverFailedError(f"{answer.failure}; see journalctl -u {SERVICE}")
        return HandedOver(answer.pid, answer.version)

    def hand_over_or_restart(self, control: ServiceControl) -> str:
        """What was done, as a line. Raises HandOverFailedError, AdminError, ShimError."""
        try:
            return str(self.hand_over())
        except RestartNeededError as error:
            control.run("restart", SERVICE, timeout_s=RESTART_S)
            return f"{SERVICE} restarted, since it could not hand over: {error}"
