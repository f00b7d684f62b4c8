"""Where the switch keeps what it needs on a node."""

from __future__ import annotations

from shimcore.systemd.units import STATE_DIR

VERSIONS = "/opt/image-cri-shim"
CURRENT = f"{VERSIONS}/current"
"""The link that the units go by; it leads to the directory of one version."""
COMMAND = f"{CURRENT}/image-cri-shim"
COMMAND_LINK = "/usr/local/bin/image-cri-shim"
CONFIG = "/etc/image-cri-shim.yaml"

ROOM = f"{STATE_DIR}/switch"
REQUEST = f"{ROOM}/request.json"
STATE = f"{ROOM}/state.json"
JOURNAL = f"{ROOM}/journal"
UNDO = f"{ROOM}/undo"
UNDONE = f"{ROOM}/undone.json"
"""The state as it will be if nothing more comes of this switch."""
PROCESS = f"{ROOM}/process"
"""Number of the process that switches, and when it began (proc(5), field 22 of stat)."""
LOCK = "/run/image-cri-shim-switch.lock"


def version_directory(version: str) -> str:
    """Where a version is unpacked."""
    return f"{VERSIONS}/{version}"
