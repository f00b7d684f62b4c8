"""The node that is looked at: its files, its configuration, and what its shim says of itself."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from shimcore.client import admin
from shimcore.client.admin import Condition, Endpoint, Status
from shimcore.cluster.starting import Start, begin
from shimcore.config import Config
from shimcore.config.files import SilentFileError
from shimcore.errors import AdminError, ConfigError, ShimError
from shimcore.systemd.root import Root
from shimcore.systemd.systemctl import ServiceControl, this_machine
from shimcore.threads import SILENT_S, in_thread

_BEGIN_S = 2.5 * SILENT_S
"""Longer takes a start that waits for a file of which it knows no copy."""


@dataclass(frozen=True, slots=True)
class Node:
    """`config` is what a shim that starts now would have; None where none can be had."""

    endpoint: Endpoint
    root: Root = field(default_factory=Root)
    proc: Path = Path("/proc")
    start: Start | None = None
    config_error: ConfigError | None = None
    """Why the file cannot be used."""
    status: Status | None = None
    status_error: str = ""
    """Why the shim could not be asked."""
    status_refused: bool = False
    """This user may not ask it."""
    control: ServiceControl | None = None
    """systemd, where it runs the machine."""

    @property
    def config(self) -> Config | None:
        """The configuration, the cluster's part included."""
        return None if self.start is None else self.start.config

    @property
    def facts(self) -> dict[str, Any]:
        """What the running shim says, with the keys of the JSON of `status`; {} without one."""
        return {} if self.status is None else self.status.facts

    @property
    def reload(self) -> str:
        """What ends the mend of a file: the running shim takes it up at once. "" without one."""
        if self.status is None or self.status.condition is Condition.NOT_RUNNING:
            return ""
        how = "reload" if self.facts.get("serving") else "restart"
        return f"; then systemctl {how} image-cri-shim"

    def command(self, words: str) -> str:
        """The command of this program, as it is typed for the node's configuration."""
        return self.endpoint.command(words)

    @property
    def runtime_socket(self) -> str | None:
        """The runtime's, as the shim has it, else as it is configured; None: to be found."""
        told = self.facts.get("runtime", {}).get("socket")
        named = self.config.runtime_socket if self.config else self.endpoint.runtime_socket
        return told or named


async def node_of(file: str) -> Node:
    """This machine, with the configuration at `file`."""
    start, error = None, None
    try:
        async with asyncio.timeout(_BEGIN_S):
            start = await in_thread(partial(begin, file))
        error = start.file_error
    except ConfigError as fault:
        error = fault
    except TimeoutError:
        error = SilentFileError(file)
    endpoint = admin.running_endpoint(file)
    status, status_error, refused = None, "", False
    try:
        status = await asyncio.to_thread(admin.status, endpoint)
    except AdminError as fault:
        status_error = str(fault)
        refused = isinstance(fault.__cause__, PermissionError)
    return Node(
        endpoint=endpoint,
        start=start,
        config_error=error,
        status=status,
        status_error=status_error,
        status_refused=refused,
        control=_control(),
    )


def _control() -> ServiceControl | None:
    try:
        return this_machine()
    except ShimError:
        return None
