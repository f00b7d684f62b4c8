"""The registry of the soak: `python -m tests.soak.registry PORT`, with IMAGES small images."""

from __future__ import annotations

import asyncio
import json
import sys

from tests.support.registry_images import ImageShelf
from tests.support.scripted_registry import ScriptedRegistry

IMAGES = 40


def repository(number: int) -> str:
    """Repository of one image; its tag is `1`."""
    return f"soak/app-{number}"


def fill(shelf: ImageShelf) -> list[str]:
    """Puts all images there; returns their IDs (the digest of each one's config)."""
    ids = []
    for number in range(IMAGES):
        digest = shelf.add_image(repository(number), "1", b"%d\n" % number)
        manifest = json.loads(shelf.manifests[repository(number), digest].content)
        ids.append(manifest["config"]["digest"])
    return ids


async def serve(port: int) -> None:
    """Until it is killed."""
    registry = ScriptedRegistry(port=port)
    fill(registry.images)
    await registry.start()
    while True:
        await asyncio.sleep(1)
        registry.requests.clear()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
