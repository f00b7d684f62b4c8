"""Image calls of one config: each held request becomes a call that decides."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from shimcore.config import Fallback
from shimcore.errors import ReferenceSyntaxError
from shimcore.heldcall import Forward, Refuse
from shimcore.images.call import ImageCall, SettledCall
from shimcore.images.candidates import Candidates, candidates_of
from shimcore.images.context import ImageContext
from shimcore.images.decision import Method, Verdict, method_of
from shimcore.images.find import FindCall
from shimcore.images.history import History
from shimcore.images.messages import ImageRequest, UnreadableRequestError
from shimcore.images.names import Names
from shimcore.images.pull import PullCall
from shimcore.images.sandbox import SandboxCall
from shimcore.images.wording import NAME_LIMIT, printable
from shimcore.reference import ImageID, parse
from shimcore.reference.parsing import NAME_LIMIT as LONGEST_NAME
from shimcore.runtime.errors import StatusCode

if TYPE_CHECKING:
    from shimcore.config import Config
    from shimcore.images.explanation import Resolution
    from shimcore.images.transaction import PullState
    from shimcore.registry.client import RegistryClient
    from shimcore.runtime.channel import Metadata
    from shimcore.runtime.client import RuntimeClient

MEANINGS = 4096
"""Names of images whose candidates are remembered; a node has some hundreds."""


class ImageService:
    """What image calls mean under one config; a reload makes a new one, which starts fresh.

    To be used inside a running event loop. `clock` gives seconds for the times to live.
    """

    def __init__(
        self,
        config: Config,
        registries: RegistryClient,
        runtime: RuntimeClient,
        names: Names | None = None,
        clock: Callable[[], float] = time.monotonic,
        history: History | None = None,
    ) -> None:
        self._config = config
        names, history = names or Names(runtime), history or History()
        self._context = ImageContext(config, registries, runtime, names, history, clock)
        # The configuration of a service never changes, so neither does what a name means.
        self._means = lru_cache(maxsize=MEANINGS)(self._meaning)

    def opens(self, method: str) -> bool:
        """Whether calls of a method in METHODS are to be opened now."""
        return method_of(method)[0] is not Method.SANDBOX or self._context.pause.wanted

    def open(
        self, method: str, message: bytes, timeout_s: float | None, metadata: Metadata = ()
    ) -> ImageCall:
        """The call of a held request; `method` is one of METHODS, `message` not compressed.

        `timeout_s`: what is left of the caller's deadline. `metadata`: the caller's own.
        """
        kind, _ = method_of(method)
        denies = kind is Method.PULL and self._config.fallback is Fallback.DENY
        try:
            request = ImageRequest(kind, message)
        except UnreadableRequestError as error:
            return SettledCall(kind, "", _unreadable(str(error), denies))
        return self._call(kind, request, timeout_s, metadata)

    async def explain(self, image: str, *, offline: bool) -> Resolution:
        """What a pull of `image` would become; see `shimcore.images.explanation`."""
        from shimcore.images.explanation import explain  # noqa: PLC0415 - for an operator only

        registries = None if offline else self._context.registries
        return await explain(image, self._config, registries)

    def stats(self) -> dict[str, Any]:
        """Cache `entries`, `hits`, `misses`; `rewrites`: (registry host, result) → pulls;
        `bytes`: registry host → bytes that came from it."""
        resolver = self._context.resolver
        return {
            "entries": len(resolver),
            "hits": resolver.hits,
            "misses": resolver.misses,
            "rewrites": dict(self._context.pulls),
            "bytes": dict(self._context.fetched),
        }

    def pulls(self) -> list[PullState]:
        """The pulls that are under way, the oldest first."""
        running = [one for one in self._context.transactions.values() if not one.ended]
        return sorted((one.state() for one in running), key=lambda state: state.started_at)

    async def drain(self) -> None:
        """Returns when all names after finished pulls have been given."""
        await self._context.names.drain()

    def _call(
        self, kind: Method, request: ImageRequest, timeout_s: float | None, metadata: Metadata
    ) -> ImageCall:
        if kind is Method.SANDBOX:
            return SandboxCall(self._context.pause, request, timeout_s)
        meant = [
            self._means(image) if len(image) <= LONGEST_NAME else self._meaning(image)
            for image in request.images
        ]
        if all(isinstance(candidates, str) for candidates in meant) and kind is not Method.REMOVE:
            return self._untouched(kind, request, str(meant[0]))
        if kind is Method.PULL and isinstance(meant[0], Candidates):
            return PullCall(self._context, request, meant[0], timeout_s, metadata)
        images = [each if isinstance(each, Candidates) else None for each in meant]
        return FindCall(self._context, kind, request, images, timeout_s)

    def _meaning(self, text: str) -> Candidates | str:
        """Where an image may come from, or why its name is not for the shim."""
        try:
            image = parse(text)
        except ReferenceSyntaxError as error:
            return f"no image name: {error.reason}"
        if isinstance(image, ImageID):
            return "an image ID"
        candidates = candidates_of(image, self._config)
        if candidates.excluded_by is not None:
            return f"excluded by {candidates.excluded_by}"
        return candidates

    def _untouched(self, kind: Method, request: ImageRequest, why: str) -> SettledCall:
        """A request for the runtime alone."""
        verdict = Verdict(Forward(None), request.image, "", why)
        if kind is Method.PULL and self._denies_untouched(request.image):
            verdict = _unreadable(f"{printable(request.image, NAME_LIMIT)}: {why}", True)
        return SettledCall(kind, request.image, verdict)

    def _denies_untouched(self, image: str) -> bool:
        """Whether a pull of a text that is no name, or of an ID, is refused: the runtime would
        look for it on Docker Hub."""
        if self._config.fallback is not Fallback.DENY:
            return False
        try:
            return isinstance(parse(image), ImageID)
        except ReferenceSyntaxError:
            return True


def _unreadable(why: str, denies: bool) -> Verdict:
    """What we cannot read, the runtime may; under `deny` no name gets out unread."""
    if denies:
        text = f"image-cri-shim: {why}; such a pull is refused (fallback: deny)"
        return Verdict(Refuse(StatusCode.INVALID_ARGUMENT, text), "", "", why)
    return Verdict(Forward(None), "", "", why)
