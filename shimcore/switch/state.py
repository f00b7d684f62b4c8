"""What has come of the switch: `state.json`, whose renaming is the one point of no return."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from shimcore.errors import ShimError
from shimcore.switch.places import STATE
from shimcore.systemd.entries import File, write
from shimcore.systemd.root import Root


class Phase(StrEnum):
    """How it stands; all but RUNNING are ends."""

    RUNNING = "running"
    HEALTHY = "healthy"
    UNDONE = "undone"
    REMOVED = "removed"
    REFUSED = "refused"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, slots=True)
class State:
    """`version` is the one that serves; `detail` one line for whoever has to act on it."""

    revision: str
    phase: Phase
    version: str | None = None
    step: str = ""
    detail: str = ""

    def as_json(self) -> dict[str, Any]:
        """With the keys of the file, and the time of now."""
        return {
            "revision": self.revision,
            "version": self.version,
            "phase": self.phase.value,
            "step": self.step,
            "detail": " ".join(self.detail.split()),
            "at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        }


def keep(root: Root, state: State, path: str = STATE) -> None:
    """Put the state at `path` in one step. Raises ShimError.

    A key a line: the undo script looks for the line of the phase.
    """
    text = json.dumps(state.as_json(), indent=1) + "\n"
    write(root, path, File(text.encode(), 0o600))


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
