"""What a roll-out is made of, as values, and what can go wrong between a pod and its node."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from shimcore.errors import ShimError
from shimcore.switch.exchange import Mode, Revision


class FleetError(ShimError):
    """Base: a roll-out cannot go on here."""


class NoLeaseError(FleetError):
    """There is no Lease for a slot."""


class BundleError(FleetError):
    """The bundle cannot be put on the node."""


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
    has_node_file: bool = False
    """Whether the chart has the nodes' file; else each node keeps its own."""


@dataclass(frozen=True, slots=True)
class Held:
    """A slot that this node has, the revision for which it was taken, and the last run before.

    `ready`: the node was then; what it was not is no fault of its switch.
    """

    slot: int
    revision: Revision
    before: str = ""
    ready: bool = True


@dataclass(frozen=True, slots=True)
class Lease:
    """A slot as the API server has it; `holder` is a node's name, empty when it is free."""

    slot: int
    version: str
    holder: str = ""
    renewed: datetime | None = None
    duration_s: int = 0

    def expired(self, now: datetime) -> bool:
        """Whether its holder has not renewed it in time; a time far ahead says nothing."""
        return self.renewed is None or abs(now - self.renewed) > timedelta(seconds=self.duration_s)


@dataclass(frozen=True, slots=True)
class Halt:
    """A revision that nobody begins any more, and why."""

    revision: Revision
    node: str
    reason: str
    at: str

    def is_for(self, lease: Lease) -> bool:
        """Whether it was said of the holder of a slot after that was renewed for the last time."""
        later = lease.renewed is None or self.at >= text_of(lease.renewed)
        return later and self.node == lease.holder


@dataclass(frozen=True, slots=True)
class Rollout:
    """What is known of all nodes: halts, the newest first, and what enough nodes are well with."""

    halts: tuple[Halt, ...] = ()
    enough: str = ""
    """The revision that more than one node may begin at once."""

    @property
    def halted(self) -> frozenset[Revision]:
        """The revisions that nobody begins any more."""
        return frozenset(each.revision for each in self.halts)


def text_of(at: datetime) -> str:
    """RFC 3339 in seconds (metav1.Time)."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
