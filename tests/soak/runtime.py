"""The stand-in runtime of the soak: `python -m tests.soak.runtime SOCKET REGISTRY JOURNAL`.

Beside CRI it answers `/x.Soak/Once` with the request, and writes the request's first ID_BYTES
to the file JOURNAL: what stands there twice has arrived twice.
"""

from __future__ import annotations

import asyncio
import os
import sys

from tests.soak.bed import NOWHERE
from tests.support.registry_puller import RegistryPuller
from tests.support.scripted_runtime import ScriptedRuntime

ID_BYTES = 16


async def serve(socket: str, registry: str, journal: str) -> None:
    """Until it is killed."""
    log = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    async def once(request: bytes) -> bytes:
        os.write(log, request[:ID_BYTES])
        return request

    host = registry.partition("://")[2]
    hosts = {host: registry, "registry-1.docker.io": NOWHERE}
    runtime = ScriptedRuntime(socket, puller=RegistryPuller(hosts), record=False)
    runtime.overrides["Soak/Once"] = once
    await runtime.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:4]))
