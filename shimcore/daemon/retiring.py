"""The rest of a process that has handed over: its calls end here, and nothing new begins."""

from __future__ import annotations

import asyncio
import logging
import os

from shimcore import __version__
from shimcore.daemon.shim import Shim

log = logging.getLogger("shimcore.daemon")

RETIRED_S = 900.0
"""How long calls may go on here: pulls, streams, and watches whose clients do not go elsewhere."""
OLDER_PROCESSES = 2
"""So many may finish their calls at a time; each has the memory of a shim of its own."""
_TELL_S = 1.0


async def finish(shim: Shim, stop: asyncio.Event) -> None:
    """Returns when the last call has ended, RETIRED_S has passed, or the process is to stop."""
    relay = shim.relay
    log.info("handed over: %d calls end here, within %.0f min", relay.running, RETIRED_S / 60)
    ending = asyncio.ensure_future(relay.retire(RETIRED_S))
    stopping = asyncio.ensure_future(stop.wait())
    try:
        while not (ending.done() or stopping.done()):
            shim.generations.journals.tell(os.getpid(), __version__, relay.running)
            await asyncio.wait(
                {ending, stopping}, timeout=_TELL_S, return_when=asyncio.FIRST_COMPLETED
            )
    finally:
        ending.cancel()
        stopping.cancel()
