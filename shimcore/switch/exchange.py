"""Where the switch of a node keeps what it needs, and how it is asked and answers.

`request.json`, read with bounds, is what is asked of a node. `state.json` is what has come of it;
its renaming is the one point of no return.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NewType

from shimcore.config.files import read_file
from shimcore.errors import ShimError
from shimcore.systemd.entries import File, write
from shimcore.systemd.root import Root
from shimcore.systemd.units import STATE_DIR

VERSIONS = "/opt/image-cri-shim"
"""With a directory for each version. An environment of pip's may lie there as well."""
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
HANDING = f"{ROOM}/handing"
"""There from when the running shim is asked to make way for another version."""
LOCK = "/run/image-cri-shim-switch.lock"

MOST_BYTES = 1 << 20
SHORTEST_HEALTH_S, LONGEST_HEALTH_S = 5, 120
"""A node whose runtime is away is NotReady after half a minute."""
_VERSION = re.compile(r"[0-9][A-Za-z0-9.+~_-]{0,127}")
_REVISION = re.compile(r"[A-Za-z0-9._+-]{1,128}")

Revision = NewType("Revision", str)
"""Names one wish: what is to be on the nodes. Revisions have no order."""


def version_directory(version: str) -> str:
    """Where a version is unpacked."""
    return f"{VERSIONS}/{version}"


class Mode(StrEnum):
    """To have the shim, or not to have it any more."""

    INSTALL = "install"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class SwitchRequest:
    """`config` None leaves the node's file as it is; `health_s`: in which it has to be well.

    `revision` names this request, repetitions with their number after a point; `at`: when it was
    made.
    """

    revision: str
    version: str
    mode: Mode
    config: str | None
    wire_runtime: bool
    wire_kubelet: bool
    health_s: int
    at: str = ""


def read_request(root: Root) -> SwitchRequest:
    """The request of this node. Raises ShimError for one that is missing or makes no sense."""
    try:
        text, _ = read_file(str(root.host(REQUEST)))
        if len(text) > MOST_BYTES:
            raise ShimError(f"{REQUEST}: longer than {MOST_BYTES} bytes")
        content = json.loads(text)
    except OSError as error:
        raise ShimError(f"{REQUEST}: {error.strerror}; nothing is asked of this node") from error
    except (ValueError, RecursionError) as error:
        raise ShimError(f"{REQUEST}: not JSON ({error})") from error
    if not isinstance(content, dict):
        raise ShimError(f"{REQUEST}: an object expected")
    return _request(content)


def _request(content: Mapping[str, Any]) -> SwitchRequest:
    config = content.get("config")
    if config is not None and not isinstance(config, str):
        raise ShimError(f"{REQUEST}: config: a text or null expected")
    try:
        mode = Mode(content.get("mode", ""))
    except ValueError as error:
        raise ShimError(f"{REQUEST}: mode: install or remove expected") from error
    version = _name(content, "version", _VERSION)
    if version == posixpath.basename(CURRENT):
        raise ShimError(f"{REQUEST}: version: {version} is the name of the link to one")
    return SwitchRequest(
        revision=_name(content, "revision", _REVISION),
        version=version,
        mode=mode,
        config=config,
        wire_runtime=_flag(content, "wire_runtime"),
        wire_kubelet=_flag(content, "wire_kubelet"),
        health_s=_seconds(content.get("health_s", 20)),
    )


def _name(content: Mapping[str, Any], key: str, pattern: re.Pattern[str]) -> str:
    value = content.get(key)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ShimError(f"{REQUEST}: {key}: letters, digits, dots and dashes expected")
    return value


def _flag(content: Mapping[str, Any], key: str) -> bool:
    value = content.get(key, True)
    if not isinstance(value, bool):
        raise ShimError(f"{REQUEST}: {key}: true or false expected")
    return value


def _seconds(value: Any) -> int:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or not SHORTEST_HEALTH_S <= value <= LONGEST_HEALTH_S:
        raise ShimError(
            f"{REQUEST}: health_s: a number of {SHORTEST_HEALTH_S} to {LONGEST_HEALTH_S} expected"
        )
    return int(value)


class Phase(StrEnum):
    """How it stands; all but RUNNING are ends."""

    RUNNING = "running"
    HEALTHY = "healthy"
    UNDONE = "undone"
    REMOVED = "removed"
    REFUSED = "refused"
    UNSUPPORTED = "unsupported"


FAILED = frozenset({Phase.UNDONE, Phase.REFUSED})


@dataclass(frozen=True, slots=True)
class State:
    """`version` is the one that serves; `detail` one line for whoever has to act on it."""

    run: str
    """The request's name."""
    phase: Phase
    version: str | None = None
    step: str = ""
    detail: str = ""

    @property
    def revision(self) -> Revision:
        """The revision that the request is for: without the number of a repetition."""
        return Revision(self.run.partition(".")[0])

    def as_json(self) -> dict[str, Any]:
        """With the keys of the file, and the time of now."""
        return {
            "revision": self.run,
            "version": self.version,
            "phase": self.phase.value,
            "step": self.step,
            "detail": " ".join(self.detail.split()),
            "at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        }


def keep(root: Root, state: State, path: str = STATE) -> State:
    """Put the state at `path` in one step, and return it. Raises ShimError.

    A key a line: the undo script looks for the line of the phase.
    """
    text = json.dumps(state.as_json(), indent=1) + "\n"
    write(root, path, File(text.encode(), 0o600))
    return state


def look(root: Root) -> dict[str, Any] | None:
    """What `state.json` holds; None where there is none. Raises ShimError."""
    text = root.text(STATE)
    if text is None:
        return None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ShimError(f"{STATE}: damaged ({error}); ask for a switch again") from error
    if not isinstance(content, dict):
        raise ShimError(f"{STATE}: damaged; ask for a switch again")
    return content
