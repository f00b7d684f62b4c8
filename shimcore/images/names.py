"""The original name of an image that came from a registry, in containerd's own image store.

The store is the only memory: once `docker.io/library/nginx:latest` stands beside
`HUB/library/nginx:latest`, the image is there under both, for everyone and after any restart.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from shimcore.errors import ShimError
from shimcore.images.brought import STORE_CALL_LIMIT_S, BroughtNames, kept_name
from shimcore.images.wording import reason

if TYPE_CHECKING:
    from shimcore.images.hints import Hints
    from shimcore.images.ports import Runtime
    from shimcore.reference import Reference
    from shimcore.runtime import ImageRecord

logger = logging.getLogger("shimcore.images")

NAMING_LIMIT_S = 30.0
"""Bound on all of one naming."""

SEEN_PAUSES_S = (0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4)
"""Waits before each look whether the runtime knows the new name: its CRI plugin learns of
it from an event, a moment after the store has it."""

MEND_BACKOFF_S = 30.0
"""How long an image whose naming failed is left alone by questions about it."""

FAILURES_LIMIT = 4096
"""Images remembered for MEND_BACKOFF_S; beyond that all are tried again."""


class NamingError(ShimError):
    """A name that could not be given; the image stays under its registry's name."""


def names_for(image: Reference, digest: str) -> tuple[str, ...]:
    """The canonical names of an image whose target is `digest`, the one people write last.

    As a pull makes them: for a tag that name and the digest's beside it, for a digest only
    that. The digest's comes first, so that a shim that dies in between mends the rest.
    """
    if image.digest:
        return (kept_name(image),)
    return (f"{image.name}@{digest}", str(image))


class Names:
    """Gives names after pulls, in tasks of its own, one at a time for an image.

    `enabled`: `names` is not `registry`. `brought`: what `names: original` takes away again;
    None in the other modes.
    """

    def __init__(
        self, runtime: Runtime, hints: Hints, *, enabled: bool, brought: BroughtNames | None
    ) -> None:
        self._runtime = runtime
        self._hints = hints
        self.enabled = enabled
        self.brought = brought
        self._tasks: dict[str, asyncio.Task[bool]] = {}
        self._loose: set[asyncio.Task[Any]] = set()
        self._failed_at: dict[str, float] = {}
        self._unsupported_said = False

    async def supported(self) -> bool:
        """True when names are wanted and the runtime has an image store; says once if not."""
        if not self.enabled:
            return False
        if await self._runtime.store_supported(timeout_s=STORE_CALL_LIMIT_S):
            return True
        if not self._unsupported_said:
            self._unsupported_said = True
            logger.warning(
                "the runtime has no image store that can be written: images keep the names of"
                " the registries they came from, as with `names: registry`"
            )
        return False

    def give(self, image: Reference, candidate: Reference) -> asyncio.Task[bool]:
        """Starts naming after a pull of `candidate`: its target goes to the image's own names.

        True when the runtime knows the image by its own name. The task belongs to this object
        and never raises.
        """
        self._hints.seen(image, str(candidate))
        return self._start(image, lambda: self._guarded(image, candidate, moves=True))

    def mend(self, image: Reference, candidate: Reference) -> asyncio.Task[bool] | None:
        """Starts naming an image found under a candidate's name only; names there stay as they are.

        None when there is nothing to be done, or it failed a moment ago.
        """
        failed_at = self._failed_at.get(str(image))
        now = asyncio.get_running_loop().time()
        if not self.enabled or (failed_at is not None and now - failed_at < MEND_BACKOFF_S):
            return None
        if (task := self.under_way(image)) is not None:
            return task
        return self._start(image, lambda: self._guarded(image, candidate, moves=False))

    def under_way(self, image: Reference) -> asyncio.Task[bool] | None:
        """The naming of an image that has not ended yet."""
        return self._tasks.get(str(image))

    def later(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs `work` in a task of this object."""
        task = asyncio.ensure_future(_logged(work))
        self._loose.add(task)
        task.add_done_callback(self._loose.discard)

    async def drain(self) -> None:
        """Returns when every naming has ended."""
        while pending := {*self._tasks.values(), *self._loose}:
            await asyncio.wait(pending)

    def _start(
        self, image: Reference, naming: Callable[[], Coroutine[Any, Any, bool]]
    ) -> asyncio.Task[bool]:
        key = str(image)
        before = self._tasks.get(key)

        async def in_turn() -> bool:
            if before is not None:
                await asyncio.wait({before})
            return await naming()

        task = asyncio.ensure_future(in_turn())
        self._tasks[key] = task
        task.add_done_callback(lambda done: self._ended(key, done))
        return task

    def _ended(self, key: str, task: asyncio.Task[bool]) -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key]

    async def _guarded(self, image: Reference, candidate: Reference, *, moves: bool) -> bool:
        """`_name`, with every failure as a warning: a pull that succeeded stays one."""
        try:
            async with asyncio.timeout(NAMING_LIMIT_S):
                named = await self._name(image, candidate, moves=moves)
        except (ShimError, TimeoutError) as error:
            self._remember_failure(image)
            why = reason(str(error) or f"not done within {NAMING_LIMIT_S:g} s")
            logger.warning("image %s keeps only the name %s: %s", image, candidate, why)
            return False
        except Exception:
            logger.exception("naming %s after %s failed", image, candidate)
            return False
        if named:
            self._failed_at.pop(str(image), None)
            self._hints.seen(image, str(image))
        return named

    def _remember_failure(self, image: Reference) -> None:
        if len(self._failed_at) >= FAILURES_LIMIT:
            self._failed_at.clear()
        self._failed_at[str(image)] = asyncio.get_running_loop().time()

    async def _name(self, image: Reference, candidate: Reference, *, moves: bool) -> bool:
        if not await self.supported():
            return False
        record = await self._runtime.store_get(kept_name(candidate), timeout_s=STORE_CALL_LIMIT_S)
        if record is None:
            raise NamingError(f"the image store has no {kept_name(candidate)}")
        for name in names_for(image, record.target.digest):
            await self._put(replace(record, name=name), moves=moves)
        if not await self._seen(image, candidate, same=moves):
            raise NamingError("the runtime does not see its new name yet")
        if self.brought is not None:
            self.brought.named(candidate, record.target.digest)
        return True

    async def _put(self, record: ImageRecord, *, moves: bool) -> None:
        """Makes the name point at the record's target; a name that is there moves if it may."""
        there = await self._runtime.store_get(record.name, timeout_s=STORE_CALL_LIMIT_S)
        if there is None:
            if await self._runtime.store_create(record, timeout_s=STORE_CALL_LIMIT_S):
                return
            there = await self._runtime.store_get(record.name, timeout_s=STORE_CALL_LIMIT_S)
        if not moves or (there is not None and _points_alike(there, record)):
            return
        labels = {**there.labels, **record.labels} if there is not None else record.labels
        await self._runtime.store_update(
            replace(record, labels=labels), timeout_s=STORE_CALL_LIMIT_S
        )

    async def _seen(self, image: Reference, candidate: Reference, *, same: bool) -> bool:
        """True once the runtime knows the image's own name; `same`: as the candidate's image."""
        for pause_s in SEEN_PAUSES_S:
            await asyncio.sleep(pause_s)
            named = await self._runtime.image_status(str(image), timeout_s=STORE_CALL_LIMIT_S)
            if named is None:
                continue
            if not same:
                return True
            pulled = await self._runtime.image_status(str(candidate), timeout_s=STORE_CALL_LIMIT_S)
            if pulled is not None and pulled.id == named.id:
                return True
        return False


def is_done(naming: asyncio.Task[bool]) -> bool:
    """True when a naming has ended, and the runtime knows the image by its own name."""
    return naming.done() and not naming.cancelled() and naming.result()


async def _logged(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    try:
        await work()
    except Exception:
        logger.exception("work after a pull failed")


def _points_alike(there: ImageRecord, wanted: ImageRecord) -> bool:
    return (
        there.target.digest == wanted.target.digest
        and wanted.labels.items() <= there.labels.items()
    )
