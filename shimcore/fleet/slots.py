"""How many nodes may switch at once, and who may take a slot. No I/O.

A slot is a Lease. One node has it at a time, from before its switch until it has been well for
`soak`; so as many nodes are at stake as there are slots in use.
"""

from __future__ import annotations

import math
from datetime import datetime
from enum import Enum

from shimcore.fleet.values import Lease

ENOUGH_WELL = 3
"""As long as fewer nodes are well with a revision, one is switched at a time."""
WIDEST = 64
"""The role names its Leases one by one; more at once helps no cluster that exists."""
LEASE_S = 300
"""How long a slot stays its holder's without a word: a switch that goes wrong is undone after a
minute, and a node that boots again has its pod back."""
RENEW_S = 20.0
STILL_S = 3 * RENEW_S
"""For so long one that is over has to be seen unchanged before another takes it: the clocks of a
cluster's API servers may differ."""
LOST = 2
"""So many nodes that went away in mid-switch are no chance, however many are well."""
DEAD_S = 300.0
"""A node that has not been Ready for so long holds up nobody."""

_FLEET_LOOKS_S = 25.0
_SHORTEST_S = 5.0


def width(nodes: int, wave_percent: float, *, enough: bool) -> int:
    """How many slots are in use; `enough` nodes are well with the revision, or not yet."""
    if not enough:
        return 1
    return max(1, min(WIDEST, math.ceil(nodes * wave_percent / 100)))


class Claim(Enum):
    """What a node may do about a slot."""

    TAKE = "take"
    WAIT = "wait"
    HALT = "halt"
    """Its holder went away in mid-switch, which cannot be said to be chance."""


def claim(lease: Lease, node: str, now: datetime, *, by_chance: bool) -> Claim:
    """Whether `node` may take the slot.

    `by_chance`: that the holder is heard of no more says nothing of the revision.
    """
    if lease.holder in {"", node}:
        return Claim.TAKE
    if not lease.expired(now):
        return Claim.WAIT
    return Claim.TAKE if by_chance else Claim.HALT


def ask_again_s(nodes: int) -> float:
    """How long a pod waits, on average, before it looks again.

    The fleet together looks at one pace, however large it is: 25 times a second at most. A look is
    one request to the API server at rest, and three while the node waits for its turn.
    """
    return max(_SHORTEST_S, nodes / _FLEET_LOOKS_S)
