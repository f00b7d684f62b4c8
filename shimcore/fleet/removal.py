"""Asking for the removal from every node, and waiting until it is done."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from shimcore.cluster.errors import ClusterError, MissingError, RefusedError
from shimcore.fleet.records import REVISION_LABEL, STATE_LABEL, VERSION_LABEL, Records
from shimcore.fleet.values import FleetError, Wanted
from shimcore.switch.exchange import Mode, Revision

log = logging.getLogger("shimcore.fleet")

LOOK_S = 5.0
REFUSED_S = 300.0
"""For so long a refusal may be that of an API server that has just started."""
_LABELS = (STATE_LABEL, VERSION_LABEL, REVISION_LABEL)


T = TypeVar("T")


async def ask(records: Records, *, look_s: float = LOOK_S) -> Wanted:
    """Have removal wanted; a removal that is under way and not halted goes on."""
    return await _patiently(lambda: _ask(records), look_s)


async def _ask(records: Records) -> Wanted:
    wanted = await records.wanted()
    if wanted.mode is not Mode.REMOVE or await _halt_of(records, wanted.revision):
        revision = Revision(f"remove-{int(records.now.timestamp())}")
        await records.want_removal(revision)
        wanted = await records.wanted()
    return wanted


async def wait(records: Records, wanted: Wanted, *, look_s: float = LOOK_S) -> None:
    """Return when no living node has the shim any more. Raises FleetError where it is halted."""
    said = ""
    while left := await _patiently(lambda: _left(records, wanted), look_s):
        if left != said:
            log.info("waits for %s", left)
            said = left
        await asyncio.sleep(look_s)
    await _patiently(lambda: take_labels_off(records, wanted), look_s)


async def _patiently(ask: Callable[[], Awaitable[T]], look_s: float) -> T:
    """The answer, however long the API server is away. Raises RefusedError, FleetError."""
    began = time.monotonic()
    while True:
        try:
            return await ask()
        except ClusterError as error:
            if isinstance(error, RefusedError) and time.monotonic() - began > REFUSED_S:
                raise
            log.warning("%s; trying again", error)
        await asyncio.sleep(look_s)


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
        with suppress(MissingError):  # the node is gone
            await records.label(name, dict.fromkeys(_LABELS))


async def _halt_of(records: Records, revision: Revision) -> str:
    for each in (await records.rollout()).halts:
        if each.revision == revision:
            return f"{each.node}: {each.reason}"
    return ""
