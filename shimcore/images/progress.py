"""How far a pull is, read from containerd's content store, and when it stands still.

The store lists what is being fetched on the whole node; only blobs of the image's own
manifest count here. A blob that another pull is fetching moves with that one. While layers
are unpacked nothing is listed, and that is no stall, whichever pull has fetched them.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

from shimcore.errors import ShimError
from shimcore.images.moment import Moment
from shimcore.jsontext import object_in
from shimcore.runtime.errors import RuntimeCallError, StatusCode
from shimcore.singleflight import heard
from shimcore.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shimcore.runtime.content import ContentStore
    from shimcore.runtime.values import Ingest

LOOK_S = 1.0
"""Between two looks; an offset moves in steps of up to 1 MiB, which take a slow link longer."""

FIRST_BYTE_S = 120.0
"""How long a blob may take to begin: a registry that pulls through fetches it itself first."""

BLOBS_LIMIT = 1024
"""Blobs of an image that are counted; images have at most 127 layers."""

MANIFESTS_LIMIT = 64
"""Manifests of an index that are looked for on the node."""

INLINE_BYTES = 65_536
"""A larger manifest is parsed beside the event loop."""

BLOBS_A_LOOK = 32
"""Blobs about whose end one look asks."""

NODE_DOWNLOADS = 3
"""How many blobs containerd 2.1 and later fetch at once, of all pulls together, by default."""


class Ingests:
    """What is being fetched on the node: one question for all pulls that ask within LOOK_S / 2."""

    def __init__(self, content: ContentStore) -> None:
        self.content = content
        self._task: asyncio.Task[list[Ingest]] | None = None
        self._asked_at = float("-inf")

    async def get(self) -> list[Ingest]:
        """Raises ShimError as the runtime's calls do."""
        now = time.monotonic()
        if self._task is None or (self._task.done() and now - self._asked_at > LOOK_S / 2):
            self._asked_at = now
            self._task = asyncio.ensure_future(self.content.ingests())
            self._task.add_done_callback(heard)
        task = self._task
        await asyncio.wait({task})
        return task.result()


class Progress:
    """One image's blobs. `digest` is its manifest's, None when the registry told none: then
    every blob of the node that is fetched meanwhile counts, and also where it is not `certain`: of
    a tag that may have moved since it was asked about.

    `visible`: False once the runtime has shown that it has no content store.
    """

    def __init__(self, ingests: Ingests, digest: str | None, *, certain: bool = True) -> None:
        self._ingests = ingests
        self._content = ingests.content
        self._certain = certain
        self._started = Moment()
        self._sizes: dict[str, int] = {}  # of the blobs that the manifest names
        self._layers: set[str] = set()
        self._packed: set[str] = set()  # configs of images whose layers are not unpacked yet
        self._manifests: set[str] = {digest} if digest else set()
        self._whole: dict[str, bool] = {}  # blob → whether it came with this pull
        self._offsets: dict[str, int] = {}
        self._changed_at = time.monotonic()
        self._begun = False
        self._others: dict[str, int] = {}
        self.visible = True

    @property
    def total(self) -> int:
        """Bytes of all blobs; 0 while it is not known."""
        return sum(self._sizes.values())

    @property
    def bytes(self) -> int:
        """Bytes that are on the node, those that were there before included."""
        return self._bytes_with(self._whole)

    @property
    def fetched(self) -> int:
        """Bytes that came since the pull began."""
        return self._bytes_with(digest for digest, new in self._whole.items() if new)

    def _bytes_with(self, whole: Iterable[str]) -> int:
        """Bytes of these blobs, and of those that are being fetched."""
        begun = (n for digest, n in self._offsets.items() if digest not in self._whole)
        return sum(self._sizes.get(digest, 0) for digest in whole) + sum(begun)

    @property
    def layers(self) -> tuple[int, int]:
        """Layers that are on the node whole, and all of them; 0 while that is not known."""
        return len(self._layers & self._whole.keys()), len(self._layers)

    @property
    def idle_s(self) -> float:
        """Seconds since something was last seen to move."""
        return time.monotonic() - self._changed_at

    def stands_still(self, stall_s: float) -> bool:
        """Whether it is fetching and nothing has come for `stall_s`, or nothing begins at all."""
        if any(self._offsets.values()):
            return self.idle_s >= stall_s
        if self._offsets or not self._begun:
            unpacking = bool(self._packed) and self._whole.keys() >= self._sizes.keys()
            return self.idle_s >= max(stall_s, FIRST_BYTE_S) and not unpacking
        return False

    async def look(self) -> None:
        """Brings all of it up to date; a runtime that does not answer changes nothing."""
        try:
            listed = await self._ingests.get()
            if not self._sizes:
                await self._read_manifests()
            await self._look_for_whole({ingest.digest for ingest in listed}, BLOBS_A_LOOK)
        except RuntimeCallError as error:
            self.visible = self.visible and error.code != StatusCode.UNIMPLEMENTED
            return
        except ShimError:
            return
        offsets = {ingest.digest: ingest.offset for ingest in listed if self._counts(ingest)}
        others = {each.digest: each.offset for each in listed if each.digest not in offsets}
        if not any(offsets.values()) and len(others) >= NODE_DOWNLOADS and others != self._others:
            self._changed_at = time.monotonic()  # it waits for its turn
        self._others = others
        if offsets != self._offsets:
            self._changed_at = time.monotonic()
            self._begun = self._begun or any(offsets.values()) or bool(self._offsets)
        self._offsets = offsets

    async def finish(self) -> None:
        """After the pull's end: what came is counted whole."""
        if not self.visible:
            return
        self._offsets = {}
        try:
            if not self._sizes:
                await self._read_manifests()
            await self._look_for_whole(set(), BLOBS_LIMIT)
        except ShimError:
            return

    def _counts(self, ingest: Ingest) -> bool:
        """Whether a blob is of this image, and has been touched since the pull began."""
        if ingest.updated_at < self._started.earliest:
            return False
        known = self._certain and (self._manifests or self._sizes)
        return not known or ingest.digest in self._manifests or ingest.digest in self._sizes

    async def _look_for_whole(self, listed: set[str], limit: int) -> None:
        missing = [d for d in self._sizes if d not in self._whole and d not in listed][:limit]
        for digest in (*self._packed & self._whole.keys(), *missing):
            blob = await self._content.blob(digest)
            if blob is None:
                continue
            if blob.unpacked:
                self._packed.discard(digest)
            if digest in self._whole:
                continue
            new = self._whole[digest] = blob.created_at >= self._started.earliest
            if new:
                self._begun = True
                self._changed_at = time.monotonic()

    async def _read_manifests(self) -> None:
        """Follows the manifest, once it is there, to the blobs that it names."""
        waiting, read = list(self._manifests), 0
        while waiting and read < MANIFESTS_LIMIT:
            read += 1
            data = await self._content.manifest(waiting.pop(0))
            if data is None:
                continue
            small = len(data) <= INLINE_BYTES
            tree = object_in(data) if small else await in_thread(partial(object_in, data))
            tree = tree or {}
            for digest in list(_descriptors(tree.get("manifests")))[:MANIFESTS_LIMIT]:
                if digest not in self._manifests:
                    self._manifests.add(digest)
                    waiting.append(digest)
            config, layers = _descriptors([tree.get("config")]), _descriptors(tree.get("layers"))
            blobs = config | layers
            self._sizes |= dict(list(blobs.items())[:BLOBS_LIMIT])
            self._layers |= layers.keys() & self._sizes.keys()
            self._packed |= config.keys() & self._sizes.keys()


def _descriptors(tree: object) -> dict[str, int]:
    """Digest → size of the descriptors in a list (OCI image-spec, descriptor.md)."""
    found: dict[str, int] = {}
    for one in tree if isinstance(tree, list) else ():
        if isinstance(one, dict):
            digest, size = one.get("digest"), one.get("size")
            if isinstance(digest, str) and isinstance(size, int) and 0 <= size < 1 << 50:
                found[digest] = size
    return found
