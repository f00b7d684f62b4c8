"""Images of which containers are being made, that are losing a name, or that are being removed.

CreateContainer gives an image's ID. containerd takes the first name that it remembers of that
image, and looks this up in its image store: where the name goes in between, the call fails.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

CREATE_LIMIT_S = 1.0
"""How long a container that is being made keeps its image's names where they are."""

REMOVE_LIMIT_S = 60.0
"""How long a removal counts whose end nobody tells."""


class InUse:
    """By the images' IDs. The two wait for each other, and for no other image."""

    def __init__(self) -> None:
        self._creating: _UnderWay = {}
        self._losing: _UnderWay = {}

    def losing(self, images: Iterable[str]) -> bool:
        """Whether one of these images is losing a name now."""
        return not self._losing.keys().isdisjoint(images)

    async def lost(self, images: Iterable[str]) -> None:
        """Returns when the names that these images are losing are gone."""
        for image in images:
            await _ended(self._losing, image)

    def creating(self, images: Iterable[str]) -> Callable[[], None]:
        """A container is being made of these images. Call the result when that is over."""
        stack = ExitStack()
        for image in images:
            stack.enter_context(_begun(self._creating, image))
        timer = asyncio.get_running_loop().call_later(CREATE_LIMIT_S, stack.close)

        def over() -> None:
            timer.cancel()
            stack.close()

        return over

    @asynccontextmanager
    async def taking(self, image: str) -> AsyncIterator[bool]:
        """Around the end of one of the image's names, until the runtime shows it no more. Gives
        whether a container had to be waited for."""
        waits = image in self._creating
        await _ended(self._creating, image)
        with _begun(self._losing, image):
            yield waits


class Removals:
    """No image is named while one is removed, which would bring it back.

    `count`: how many removals have begun and ended; what was known of images before is uncertain
    then.
    """

    def __init__(self) -> None:
        self._until: dict[object, float] = {}
        self.count = 0

    def begin(self) -> Callable[[], None]:
        """Something is removed. Call the result when that is over."""
        token = object()
        self._until[token] = time.monotonic() + REMOVE_LIMIT_S
        self.count += 1

        def over() -> None:
            self._until.pop(token, None)
            self.count += 1

        return over

    @property
    def under_way(self) -> bool:
        """Whether something is being removed."""
        now = time.monotonic()
        return any(until > now for until in self._until.values())


_UnderWay = dict[str, set["asyncio.Future[None]"]]


@contextmanager
def _begun(under_way: _UnderWay, image: str) -> Iterator[None]:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    under_way.setdefault(image, set()).add(future)
    try:
        yield
    finally:
        future.set_result(None)
        under_way[image].discard(future)
        if not under_way[image]:
            del under_way[image]


async def _ended(under_way: _UnderWay, image: str) -> None:
    """Returns when all has ended that is under way now."""
    if image in under_way:
        await asyncio.wait(under_way[image])
