"""Getting a slot, keeping it, giving it back.

What is decided is in `slots`; here the facts for it are asked, no more of them than it takes.
"""

from __future__ import annotations

import logging
import math
import random
import time
from contextlib import suppress
from dataclasses import dataclass, field

from shimcore.cluster.errors import ConflictError
from shimcore.fleet import slots
from shimcore.fleet.records import Records
from shimcore.fleet.report import is_in_mid_switch
from shimcore.fleet.slots import ENOUGH_WELL, Claim
from shimcore.fleet.switchfiles import SwitchFiles
from shimcore.fleet.values import Held, Lease, Wanted
from shimcore.switch.exchange import Revision

log = logging.getLogger("shimcore.fleet")

_COUNT_AGAIN_S = 600.0


@dataclass(slots=True)
class Queue:
    """One node's way to a slot. Methods raise ClusterError and FleetError."""

    records: Records
    files: SwitchFiles
    node: str
    source: random.Random = field(default_factory=random.Random)
    held: Held | None = None
    nodes: int = 1
    _control_plane: bool | None = None
    _renewed: float = 0.0
    _counted: float | None = None
    _enough_for: Revision | None = None
    _said: str = ""

    async def recall(self) -> None:
        """Have again what an earlier pod of this node had, if it is still the node's."""
        noted = self.files.held()
        if self.held is not None or noted is None:
            return
        lease = await self.records.lease(noted.slot)
        if lease.holder == self.node:
            self.held = noted
        else:
            self.files.let_go()

    async def renew(self) -> None:
        """Keep the slot; it may have been lost to another."""
        if self.held is None or time.monotonic() - self._renewed < slots.RENEW_S:
            return
        lease = await self.records.lease(self.held.slot)
        if lease.holder == self.node:
            await self._take(lease)
        else:
            log.warning("slot %d is %s's now", self.held.slot, lease.holder or "nobody")
            self._forget()

    async def confirm(self, wanted: Wanted) -> bool:
        """Whether the slot is this node's and nobody has halted: asked right before a switch."""
        self._renewed = -math.inf
        await self.renew()
        if self.held is None or not await self._still_good(wanted):
            return False
        self.files.hold(self.held)  # if the API server was away when it was taken
        return True

    async def release(self) -> None:
        """Give the slot back."""
        if self.held is None:
            return
        lease = await self.records.lease(self.held.slot)
        if lease.holder == self.node:
            await self.records.give_back(lease)
        self._forget()

    async def try_once(self, wanted: Wanted, before: str) -> bool:
        """Take a slot if one is free for this node; whether it has one now.

        `before` names the node's last run, so that its next pod can tell if there was one since.
        """
        well = await self._well(wanted.revision)
        slot = await self._candidate(wanted, well)
        if slot is None:
            return False
        lease = await self.records.lease(slot)
        match await self._claim(lease, well):
            case Claim.WAIT:
                self._say(f"waits: slot {slot} is {lease.holder}'s")
                return False
            case Claim.HALT:
                why = f"{lease.holder} went away in mid-switch, and has not come back"
                await self.records.halt(wanted.revision, lease.holder, why)
                with suppress(ConflictError):  # else it would halt the next revision, too
                    await self.records.give_back(lease)
                return False
            case Claim.TAKE:
                pass
        if not await self._take(lease):
            return False
        self.held = Held(slot, wanted.revision, before)
        if not await self._still_good(wanted):
            return False
        # Not before: a node that has no turn is not touched. A pod that ends here leaves a slot in
        # the node's name, which the next one takes for its own.
        self.files.hold(self.held)
        return True

    async def count(self) -> None:
        """Know how large the cluster is, now and then."""
        now = time.monotonic()
        if self._counted is None or now - self._counted > _COUNT_AGAIN_S:
            self.nodes = max(1, await self.records.count_nodes())
            self._counted = now

    def pause_s(self) -> float:
        """How long to wait before the API server is asked again; each node draws its own."""
        return slots.ask_again_s(self.nodes) * self.source.uniform(0.5, 1.5)

    async def _candidate(self, wanted: Wanted, well: int) -> int | None:
        if self._control_plane is None:
            own = await self.records.node(self.node)
            self._control_plane = own is not None and own.control_plane
        left = await self.records.first_worker_left(wanted) if self._control_plane else None
        if left is not None:
            self._say(f"waits: control planes are last, and {left} is not yet well")
        return slots.candidate(
            control_plane=self._control_plane,
            workers_left=left is not None,
            width=slots.width(self.nodes, well, wanted.wave_percent),
            pick=self.source.randrange,
        )

    async def _well(self, revision: Revision) -> int:
        """How many are well with it; enough of them stay enough."""
        if self._enough_for == revision:
            return ENOUGH_WELL
        well = await self.records.count_well(revision)
        if well >= ENOUGH_WELL:
            self._enough_for = revision
        return well

    async def _claim(self, lease: Lease, well: int) -> Claim:
        sound = True
        if lease.holder not in {"", self.node} and lease.expired(self.records.now):
            holder = await self.records.node(lease.holder)
            sound = holder is not None and holder.ready and not is_in_mid_switch(holder.labels)
        return slots.claim(lease, self.node, self.records.now, well=well, holder_sound=sound)

    async def _take(self, lease: Lease) -> bool:
        try:
            await self.records.take(lease, self.node)
        except ConflictError:
            return False
        self._renewed = time.monotonic()
        return True

    async def _still_good(self, wanted: Wanted) -> bool:
        """Look again, now that the slot is held: a halt is written before a slot comes free."""
        now = await self.records.wanted()
        halts = await self.records.halts()
        halted = any(each.revision == wanted.revision for each in halts)
        if now.revision == wanted.revision and not halted:
            return True
        await self.release()
        return False

    def _forget(self) -> None:
        self.held = None
        self.files.let_go()

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            log.info("%s", text)
