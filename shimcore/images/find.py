"""ImageStatus, RemoveImage, CreateContainer: the name under which an image is on the node.

Only the runtime is asked, never a registry.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from shimcore.errors import RuntimeUnavailableError
from shimcore.heldcall import AS_IT_CAME, Forward
from shimcore.images.call import ImageCall, Method, Verdict
from shimcore.images.history import Ending, Record
from shimcore.reference.parsing import NAME_LIMIT
from shimcore.runtime.errors import RuntimeCallError, StatusCode

if TYPE_CHECKING:
    from shimcore.images.candidates import Candidate, Candidates
    from shimcore.images.context import ImageContext
    from shimcore.images.inuse import InUse
    from shimcore.images.messages import ImageRequest
    from shimcore.reference import Reference

NAMING_WAIT_S = 1.0
"""How long a question waits for an image's name to be given; longer, and it goes on without."""


class FindCall(ImageCall):
    """One held request that speaks of images on the node.

    `images`: for each image that the request names, in its order, where it may have come
    from; None for one that goes on untouched (an ID, an excluded name). `timeout_s` is what is
    left of the caller's deadline; `timeout` bounds the call, too.
    """

    def __init__(
        self,
        context: ImageContext,
        method: Method,
        request: ImageRequest,
        images: Sequence[Candidates | None],
        timeout_s: float | None,
    ) -> None:
        super().__init__(method, request.image)
        self._context = context
        self._request = request
        self._images = images
        self._timeout_s = timeout_s
        self._under: str | None = None  # the registry's name under which it was found
        self._over: Callable[[], None] | None = None  # of a removal, or of a container's making

    def _now(self) -> Verdict | None:
        """The verdict that needs no question: images with one possible name, or known ones."""
        if self._method is Method.REMOVE:
            self._context.hints.clear()
            if self._context.names.mending:
                return None
        if self._method is Method.CREATE and self._in_use.losing(self._request.images):
            return None
        for text, candidates in zip(self._request.images, self._images, strict=True):
            if not self._is_settled(text, candidates):
                return None
        self._removes()
        self._uses()
        return self._as_is("known under its own name" if any(self._images) else "an image ID")

    async def _ask(self) -> Verdict:
        """The verdict after asking the runtime, within the call's deadline."""
        self._removes()
        try:
            limit_s = self._context.config.timeout_s
            if self._timeout_s is not None:
                limit_s = min(self._timeout_s, limit_s)
            async with asyncio.timeout(self._left_s(limit_s)):
                if self._method is Method.REMOVE:
                    await self._until(self._context.names.mended())
                if self._method is Method.CREATE:
                    await self._until(self._in_use.lost(self._request.images))
                verdict = await self._names()
                self._uses()
                return verdict
        except asyncio.CancelledError:
            if self._over is not None:
                self._over()
            raise
        except TimeoutError:
            return self._as_is("the runtime did not answer in time")
        except RuntimeUnavailableError:
            return self._as_is("the runtime cannot be reached")

    @property
    def _in_use(self) -> InUse:
        return self._context.names.in_use

    def _removes(self) -> None:
        """No image is named while one is removed. A call that nobody waits for never gets here."""
        if self._method is Method.REMOVE:
            self._over = self._context.names.removals.begin()

    def _uses(self) -> None:
        """The images keep their names while a container is made of them."""
        if self._method is Method.CREATE:
            named = [image for image in self._request.images if len(image) <= NAME_LIMIT]
            self._over = self._in_use.creating(named)

    def _goes_on(self) -> None:
        super()._goes_on()
        del self._request
        self._images = self._images[:1]

    def _ended(self, code: int, *, empty: bool, message: str) -> None:
        """Takes the runtime's answer as a hint for the next question."""
        hints, candidates = self._context.hints, self._images[0]
        self._note(code, empty, message)
        if self._over is not None:
            self._over()
        if self._method is Method.REMOVE:
            hints.clear()
        elif self._method is Method.STATUS and candidates is not None and candidates.ranked:
            if code == 0 and not empty:
                if not hints.is_own(candidates.image):
                    hints.seen(candidates.image, self._under or str(candidates.image))
            else:
                hints.drop(candidates.image)

    def _note(self, code: int, empty: bool, message: str) -> None:
        """Put a question that found nothing into the history."""
        absent = code == StatusCode.OK and empty and self._method is Method.STATUS
        if not absent and code in {StatusCode.OK, StatusCode.CANCELLED}:
            return
        ending = Ending.ABSENT if absent else Ending.FAILED
        seconds = time.monotonic() - self._started
        self._context.history.note(
            Record(self._method, self._image, ending, seconds, code=code, reason=message)
        )

    def _is_settled(self, text: str, candidates: Candidates | None) -> bool:
        """Whether an image has no name but its own, or is known to be there under it."""
        if candidates is None or not candidates.ranked:
            return True
        image = candidates.image
        return self._is_known(text, image) and not self._context.names.under_way(image)

    def _is_known(self, text: str, image: Reference) -> bool:
        """Whether an image is known to be there under its own name, which the runtime takes."""
        hints = self._context.hints
        if self._method is Method.REMOVE or not hints.is_own(image):
            return False
        return not hints.short_names_refused or text == str(image)

    async def _names(self) -> Verdict:
        names, found = [], []
        for text, candidates in zip(self._request.images, self._images, strict=True):
            if self._is_settled(text, candidates) or candidates is None:
                names.append(text)
                continue
            name, candidate, why = await self._find(text, candidates)
            names.append(name)
            found.append((candidate, why))
        why = "; ".join(dict.fromkeys(why for _, why in found if why)) or "an image ID"
        if names == self._request.images:
            return self._as_is(why)
        decision = Forward(self._request.renamed(names))
        under = next((candidate for candidate, _ in found if candidate is not None), None)
        if under is None:
            return Verdict(decision, names[0], "", f"{why}; the runtime takes no short name")
        self._under = str(under.reference)
        why = "there under the registry's name"
        return Verdict(decision, self._under, under.registry.host, why)

    async def _find(self, text: str, candidates: Candidates) -> tuple[str, Candidate | None, str]:
        """The name for the runtime, the candidate whose name that is, and why.

        None when it is the image's own: the text, or the whole name where the text was refused.
        """
        image, own = candidates.image, text
        if self._context.names.under_way(image):
            await self._until(self._context.names.settled(image))
            if self._is_known(text, image):
                return own, None, "known under its own name"
        for name, candidate in self._names_to_ask(text, candidates):
            there = await self._is_there(name)
            if there is None and candidate is None:
                own = str(image)
                there = await self._is_there(own)
            if not there:
                continue
            if candidate is None:
                return own, None, "there under its own name"
            if await self._mended(candidates, candidate):
                return own, None, "has been given its own name"
            return name, candidate, ""
        return own, None, "not there under any name"

    @staticmethod
    async def _until(settled: Coroutine[Any, Any, None]) -> None:
        """Waits for names to be given, and no longer than NAMING_WAIT_S."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(NAMING_WAIT_S):
                await settled

    def _names_to_ask(
        self, text: str, candidates: Candidates
    ) -> Iterator[tuple[str, Candidate | None]]:
        """The name last found, the original, the candidates; each once. None: the original."""
        last = self._context.hints.name(candidates.image)
        by_name = {str(candidate.reference): candidate for candidate in candidates.ranked}
        if last in by_name:
            yield last, by_name.pop(last)
        yield text, None
        yield from by_name.items()

    async def _is_there(self, name: str) -> bool | None:
        """Whether the runtime has it; a status that it gives instead of an answer is no.

        None where it takes no such name.
        """
        try:
            return await self._context.runtime.image_status(name, timeout_s=None) is not None
        except RuntimeCallError as error:
            if not error.refuses_short_names:
                return False
            self._context.hints.short_names_refused = True
            return None

    async def _mended(self, candidates: Candidates, candidate: Candidate) -> bool:
        """True when the image has its own name now: a pull had ended, but not its naming."""
        if self._method is Method.REMOVE:
            return False
        mode = self._context.config.names
        naming = self._context.names.mend(candidates.image, candidate.reference, mode)
        if naming is None:
            return False
        await asyncio.wait({naming}, timeout=NAMING_WAIT_S)
        own = str(candidates.image)
        named = naming.done() and not naming.cancelled() and naming.result() == own
        if named:
            self._context.hints.seen(candidates.image, own)
        return named

    def _as_is(self, why: str) -> Verdict:
        return Verdict(AS_IT_CAME, self._image, "", why)
