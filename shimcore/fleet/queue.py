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
from shimcore.fleet.slots import Claim
from shimcore.fleet.switchfiles import SwitchFiles
from shimcore.fleet.values import Held, Lease, NoLeaseError, Rollout, Wanted

log = logging.getLogger("shimcore.fleet")

_COUNT_AGAIN_S = 600.0


@dataclass(frozen=True, slots=True)
class Sight:
    """A slot that is over by the clock, and since when it has been seen unchanged."""

    slot: int
    version: str
    at: float


@dataclass(slots=True)
class Queue:
    """One node's way to a slot. Methods raise ClusterError and FleetError."""

    records: Records
    files: SwitchFiles
    node: str
    source: random.Random = field(default_factory=random.Random)
    held: Held | None = None
    nodes: int = 1
    control_plane: bool = False
    """Whether the node is one; a new one gets its label after it has joined."""
    _renewed: float = 0.0
    _counted: float | None = None
    _sight: Sight | None = None
    _said: str = ""

    async def recall(self) -> None:
        """Have again what an earlier pod of this node had, if it is still the node's."""
        noted = self.files.held()
        if self.held is not None or noted is None:
            return
        lease = await self._lease_of(noted)
        if lease is None or lease.holder == self.node:
            self.held = noted
        else:
            self.files.let_go()

    async def renew(self) -> bool:
        """Keep the slot; False where it is not, and perhaps lost to another."""
        if self.held is None:
            return False
        if time.monotonic() - self._renewed < slots.RENEW_S:
            return True
        lease = await self._lease_of(self.held)
        if lease is None:
            return False
        if lease.holder in {self.node, ""}:  # one that somebody has cleared is still its holder's
            return await self._take(lease)
        log.warning("slot %d is %s's now", self.held.slot, lease.holder)
        self._forget()
        return False

    async def confirm(self, wanted: Wanted) -> bool:
        """Whether the slot is this node's and nobody has halted: asked right before a switch."""
        self._renewed = -math.inf
        if not await self.renew() or self.held is None or not await self._still_good(wanted):
            return False
        self.files.hold(self.held)  # if the API server was away when it was taken
        return True

    async def release(self) -> None:
        """Give the slot back."""
        if self.held is None:
            return
        lease = await self._lease_of(self.held)
        if lease is not None and lease.holder == self.node:
            await self.records.give_back(lease)
        self._forget()

    async def try_once(self, wanted: Wanted, known: Rollout, before: str) -> bool:
        """Take a slot if one is free for this node; whether it has one now.

        `before` names the node's last run, so that its next pod can tell if there was one since.
        """
        enough = known.enough == wanted.revision
        slot = await self._candidate(wanted, enough=enough)
        if slot is None:
            return False
        lease = await self.records.lease(slot)
        match await self._claim(lease, known, enough=enough):
            case Claim.WAIT:
                self._say(f"waits: slot {slot} is {lease.holder}'s")
                return False
            case Claim.HALT:
                why = f"{lease.holder} went away in mid-switch, and has not come back"
                await self.records.halt(wanted.revision, lease.holder, why)
                with suppress(ConflictError):
                    await self.records.give_back(lease)
                return False
            case Claim.TAKE:
                pass
        node = await self.records.node(self.node)
        if not await self._take(lease):
            return False
        self.held = Held(slot, wanted.revision, before, ready=node is not None and node.ready)
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

    async def _candidate(self, wanted: Wanted, *, enough: bool) -> int | None:
        """The slot to try; None while the node has to wait for others.

        Control planes have the first slot alone, so they go one by one, after every worker.
        """
        if not self.control_plane:
            return self._pick(slots.width(self.nodes, wanted.wave_percent, enough=enough))
        left = await self.records.first_left(wanted, workers=True)
        if left is None:
            return 0
        self._say(f"waits: control planes are last, and {left} is not yet well")
        return None

    def _pick(self, width: int) -> int:
        """One that is watched, else any: nodes that try different slots do not stand in each
        other's way."""
        watched = self._sight
        if watched is not None and watched.slot < width:
            return watched.slot
        return self.source.randrange(width)

    async def _claim(self, lease: Lease, known: Rollout, *, enough: bool) -> Claim:
        by_chance = True
        if lease.holder not in {"", self.node} and lease.expired(self.records.now):
            if not self._stands_still(lease):
                return Claim.WAIT
            # Halted for once, where its slot was not freed then, it does not halt the next, too.
            told = any(halt.is_for(lease) for halt in known.halts)
            by_chance = told or await self._is_chance(lease.holder, enough=enough)
        self._sight = None
        return slots.claim(lease, self.node, self.records.now, by_chance=by_chance)

    async def _is_chance(self, name: str, *, enough: bool) -> bool:
        """Whether it says nothing of the revision that a holder is heard of no more."""
        holder = await self.records.node(name)
        switching = holder is not None and is_in_mid_switch(holder.labels)
        if holder is not None and holder.ready and not switching:
            return True
        if holder is None or not enough or not switching:
            return enough
        return await self.records.count_lost(holder) < slots.LOST

    def _stands_still(self, lease: Lease) -> bool:
        """Whether nobody has renewed it while this pod looked on."""
        now, sight = time.monotonic(), self._sight
        if sight is None or sight.slot != lease.slot:
            self._sight = Sight(lease.slot, lease.version, now)
            return False
        if sight.version != lease.version:  # its holder lives
            self._sight = None
            return False
        return now - sight.at >= slots.STILL_S

    async def _lease_of(self, held: Held) -> Lease | None:
        """None where somebody has deleted it: then nobody else can have the slot either."""
        try:
            return await self.records.lease(held.slot)
        except NoLeaseError as error:
            self._say(str(error), logging.WARNING)
            return None

    async def _take(self, lease: Lease) -> bool:
        try:
            await self.records.take(lease, self.node)
        except ConflictError:
            # One that was done, and whose answer was lost, is a conflict with itself.
            if (await self.records.lease(lease.slot)).holder != self.node:
                return False
        self._renewed = time.monotonic()
        return True

    async def _still_good(self, wanted: Wanted) -> bool:
        """Look again, now that the slot is held: a halt is written before a slot comes free."""
        now = await self.records.wanted()
        halted = (await self.records.rollout()).halted
        good = now.revision == wanted.revision and wanted.revision not in halted
        if good and not await self._has_become_control_plane():
            return True
        await self.release()
        return False

    async def _has_become_control_plane(self) -> bool:
        """Whether the slot was taken for a worker, and the node is none by now."""
        if self.control_plane:
            return False
        own = await self.records.node(self.node)
        self.control_plane = own is not None and own.control_plane
        return self.control_plane

    def _forget(self) -> None:
        self.held = None
        self.files.let_go()

    def _say(self, text: str, level: int = logging.INFO) -> None:
        if text != self._said:
            self._said = text
            log.log(level, "%s", text)
