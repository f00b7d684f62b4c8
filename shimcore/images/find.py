"""ImageStatus, RemoveImage, CreateContainer: the name under which an image is on the node.

Only the runtime is asked, never a registry.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING

from shimcore.errors import RuntimeUnavailableError
from shimcore.images.decision import Forward, Method, Verdict
from shimcore.images.names import is_done
from shimcore.runtime.errors import RuntimeCallError

if TYPE_CHECKING:
    from shimcore.images.messages import ImageRequest
    from shimcore.images.parts import Parts
    from shimcore.images.places import Candidate, Places

NAMING_WAIT_S = 1.0
"""How long a question waits for an image's name to be given; longer, and it goes on without."""


class FindCall:
    """One held request that speaks of an image on the node."""

    def __init__(
        self, parts: Parts, method: Method, request: ImageRequest, places: Places, deadline: float
    ) -> None:
        self._parts = parts
        self._method = method
        self._request = request
        self._places = places
        self._deadline = deadline
        self._under: str | None = None

    def now(self) -> Verdict | None:
        """The verdict that needs no question: an image with one possible name, or a known one."""
        if self._method is Method.REMOVE:
            self._parts.hints.clear()
        if not self._places.candidates:
            return self._as_is("it can have no other name")
        if self._method is Method.REMOVE:
            return None
        if self._parts.hints.is_own(self._places.image) and not self._naming():
            return self._as_is("known under its own name")
        return None

    async def ask(self) -> Verdict:
        """The verdict after asking the runtime, within the call's deadline."""
        try:
            async with asyncio.timeout_at(self._deadline):
                return await self._ask()
        except TimeoutError:
            return self._as_is("the runtime did not answer in time")
        except RuntimeUnavailableError:
            return self._as_is("the runtime cannot be reached")

    def finished(self, code: int, *, empty: bool) -> None:
        """Takes the runtime's answer as a hint for the next question."""
        hints, image = self._parts.hints, self._places.image
        if self._method is Method.REMOVE:
            hints.clear()
        elif self._method is Method.STATUS and self._places.candidates:
            if code == 0 and not empty:
                if not hints.is_own(image):
                    hints.seen(image, self._under or str(image))
            else:
                hints.drop(image)

    def abandoned(self) -> None:
        """The caller is gone; there is nothing to undo."""

    def secrets(self) -> tuple[str, ...]:
        """None: these requests carry no credentials."""
        return ()

    async def _ask(self) -> Verdict:
        image = self._places.image
        naming = self._naming()
        if naming is not None:
            await asyncio.wait({naming}, timeout=NAMING_WAIT_S)
            if self._method is not Method.REMOVE and self._parts.hints.is_own(image):
                return self._as_is("known under its own name")
        for name, candidate in self._names_to_ask():
            if not await self._is_there(name):
                continue
            if candidate is None:
                return self._as_is("there under its own name")
            if await self._mended(candidate):
                return self._as_is("has been given its own name")
            self._under = str(candidate.reference)
            message = self._request.named(self._under)
            host = candidate.registry.host
            return Verdict(Forward(message), self._under, host, "there under the registry's name")
        return self._as_is("not there under any name")

    def _names_to_ask(self) -> Iterator[tuple[str, Candidate | None]]:
        """The name last found, the original, the candidates; each once. None: the original."""
        last = self._parts.hints.name(self._places.image)
        by_name = {str(candidate.reference): candidate for candidate in self._places.candidates}
        if last in by_name:
            yield last, by_name.pop(last)
        yield self._request.image, None
        yield from by_name.items()

    async def _is_there(self, name: str) -> bool:
        """Whether the runtime has it; a status that it gives instead of an answer is no."""
        try:
            return await self._parts.runtime.image_status(name, timeout_s=None) is not None
        except RuntimeCallError:
            return False

    async def _mended(self, candidate: Candidate) -> bool:
        """True when the image has its own name now: a pull had ended, but not its naming."""
        if self._method is Method.REMOVE:
            return False
        naming = self._parts.names.mend(self._places.image, candidate.reference)
        if naming is None:
            return False
        await asyncio.wait({naming}, timeout=NAMING_WAIT_S)
        return is_done(naming)

    def _naming(self) -> asyncio.Task[bool] | None:
        return self._parts.names.under_way(self._places.image)

    def _as_is(self, why: str) -> Verdict:
        return Verdict(Forward(None), self._request.image, "", why)
