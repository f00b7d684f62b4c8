"""What a roll-out is made of, as values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NewType

Revision = NewType("Revision", str)
"""Names one wish: what is to be on the nodes. Revisions have no order."""


class Mode(StrEnum):
    """What is to become of the nodes."""

    INSTALL = "install"
    REMOVE = "remove"


class Phase(StrEnum):
    """Where a node's switch stands, as its state.json says."""

    RUNNING = "running"
    HEALTHY = "healthy"
    UNDONE = "undone"
    REMOVED = "removed"
    REFUSED = "refused"
    UNSUPPORTED = "unsupported"


FAILED = frozenset({Phase.UNDONE, Phase.REFUSED})


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the operator wants, from the chart's ConfigMap."""

    revision: Revision
    mode: Mode
    wave_percent: float
    soak_s: float
    health_s: int
    wire_runtime: bool
    wire_kubelet: bool
    selector: str = ""
    """Of the nodes on which pods run, as a label selector."""
    node_file_sum: str = ""
    """SHA-256 of the node's file; empty where each node keeps its own."""


@dataclass(frozen=True, slots=True)
class SwitchState:
    """What the node's switch has said last."""

    revision: Revision
    """Without the number of a repetition."""
    run: str
    """With it: names one request."""
    phase: Phase
    version: str | None = None
    step: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Held:
    """A slot that this node has, and the revision for which it was taken."""

    slot: int
    revision: Revision


@dataclass(frozen=True, slots=True)
class Lease:
    """A slot as the API server has it; `holder` is a node's name, empty when it is free."""

    slot: int
    version: str
    holder: str = ""
    renewed: datetime | None = None
    duration_s: int = 0

    def expired(self, now: datetime) -> bool:
        """Whether its holder has not renewed it in time."""
        return self.renewed is None or now > self.renewed + timedelta(seconds=self.duration_s)


@dataclass(frozen=True, slots=True)
class Halt:
    """A revision that nobody begins any more, and why."""

    revision: Revision
    node: str
    reason: str
    at: str
