"""Runs inside the booted tree: the stand-in runtime, and a hub with a login, sealos.hub:5000.

Outside of it, in its network alone, it takes the tree's root directory as its argument.
A pull takes as long as `/run/node/slow` says (seconds), after `/run/node/pulling` appeared; while
there is `/run/node/hold` it does not begin.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from shimcore.pb import cri_pb2
from tests.support.registry_puller import RegistryPuller
from tests.support.scripted_registry import ScriptedRegistry
from tests.support.scripted_runtime import ScriptedRuntime
from tests.support.standin_images import PulledImage

ROOT = Path(*sys.argv[1:2] or "/")
SOCKET = str(ROOT / "run/containerd/containerd.sock")
ROOM = ROOT / "run/node"


class _SlowPuller(RegistryPuller):
    async def __call__(self, image: str, auth: cri_pb2.AuthConfig | None) -> PulledImage:
        slow, hold = ROOM / "slow", ROOM / "hold"
        while hold.exists():
            (ROOM / "pulling").touch()
            await asyncio.sleep(0.05)
        if slow.exists():
            (ROOM / "pulling").touch()
            await asyncio.sleep(float(slow.read_text()))
        return await super().__call__(image, auth)


async def main() -> None:
    """Serve until killed."""
    ROOM.mkdir(exist_ok=True)
    Path(SOCKET).parent.mkdir(exist_ok=True)
    hub = ScriptedRegistry(port=5000, users={"admin": "pass:word"}, auth="basic")
    for name in ("nginx", "busybox"):
        hub.add_image(f"library/{name}", "latest")
    await hub.start()
    puller = _SlowPuller({"sealos.hub:5000": "http://127.0.0.1:5000"})
    runtime = ScriptedRuntime(SOCKET, puller=puller, record=False)
    await runtime.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
