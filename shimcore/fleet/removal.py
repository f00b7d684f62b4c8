"""Asking for the removal from every node, and waiting until it is done."""

from __future__ import annotations

import asyncio
import logging

from shimcore.cluster.errors import ApiUnreachableError
from shimcore.fleet.records import REVISION_LABEL, STATE_LABEL, VERSION_LABEL, Records
from shimcore.fleet.values import FleetError, Wanted
from shimcore.switch.exchange import Mode, Revision

log = logging.getLogger("shimcore.fleet")

LOOK_S = 5.0
_LABELS = (STATE_LABEL, VERSION_LABEL, REVISION_LABEL)


async def ask(records: Records) -> Wanted:
    """Have removal wanted; a removal that is under way and not halted goes on."""
    wanted = await records.wanted()
    if wanted.mode is not Mode.REMOVE or await _halt_of(records, wanted.revision):
        revision = Revision(f"remove-{int(records.now.timestamp())}")
        await records.want_removal(revision)
        wanted = await records.wanted()
    return wanted


async def wait(records: Records, wanted: Wanted, *, look_s: float = LOOK_S) -> None:
    """Return when no living node has the shim any more. Raises FleetError where it is halted."""
    said = ""
    while True:
        try:
            left = await _left(records, wanted)
        except ApiUnreachableError as error:
            log.warning("%s; trying again", error)
        else:
            if left is None:
                break
            if left != said:
                log.info("waits for %s", left)
                said = left
        await asyncio.sleep(look_s)
    await take_labels_off(records, wanted)


async def _left(records: Records, wanted: Wanted) -> str | None:
    why = await _halt_of(records, wanted.revision)
    if why:
        raise FleetError(f"the removal is halted: {why}; mend it and remove again")
    return await records.first_left(wanted)


async def take_labels_off(records: Records, wanted: Wanted) -> None:
    """Leave no trace on the nodes; one that is dead keeps its labels, as it keeps the shim."""
    names = [
        node.name
        async for node in records.each(STATE_LABEL)
        if node.labels.get(REVISION_LABEL) == wanted.revision
    ]
    for name in names:
        await records.label(name, dict.fromkeys(_LABELS))


async def _halt_of(records: Records, revision: Revision) -> str:
    for each in await records.halts():
        if each.revision == revision:
            return f"{each.node}: {each.reason}"
    return ""
