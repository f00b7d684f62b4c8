"""Image calls of one config: each held request becomes a call that decides."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from shimcore.config import Fallback
from shimcore.errors import ReferenceSyntaxError
from shimcore.heldcall import AS_IT_CAME, Refuse
from shimcore.images.call import ImageCall, Method, SettledCall, Verdict, method_of
from shimcore.images.candidates import Candidates, candidates_of
from shimcore.images.context import ImageContext
from shimcore.images.find import FindCall
from shimcore.images.history import History
from shimcore.images.messages import ImageRequest, UnreadableRequestError
from shimcore.images.names import Names
from shimcore.images.pull import PullCall
from shimcore.images.sandbox import SandboxCall
from shimcore.images.wording import NAME_LIMIT, printable
from shimcore.reference import ImageID, Reference, parse
from shimcore.reference.parsing import NAME_LIMIT as LONGEST_NAME
from shimcore.runtime.errors import StatusCode

if TYPE_CHECKING:
    from shimcore.config import Config
    from shimcore.images.transaction import PullState
    from shimcore.registry.client import RegistryClient
    from shimcore.runtime.channel import Metadata
    from shimcore.runtime.client import RuntimeClient

MEANINGS = 4096
"""Names of images whose candidates are remembered; a node has some hundreds."""

QUESTIONS = 1024
QUESTION_BYTES = 512
"""ImageStatus requests that are remembered as read, and how long one may be: kubelet asks the same
of an image each time."""


@dataclass(frozen=True, slots=True)
class _Untouched:
    """A text that is not for the shim, and why; the image where it is a name."""

    why: str
    image: Reference | None = None


_Meaning = Candidates | _Untouched


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
        self._question = lru_cache(maxsize=QUESTIONS)(partial(self._read, Method.STATUS))

    def opens(self, method: str) -> bool:
        """Whether calls of a method in METHODS are to be opened now."""
        return method_of(method) is not Method.SANDBOX or self._context.pause.wanted

    def open(
        self, method: str, message: bytes, timeout_s: float | None, metadata: Metadata = ()
    ) -> ImageCall:
        """The call of a held request; `method` is one of METHODS, `message` not compressed.

        `timeout_s`: what is left of the caller's deadline. `metadata`: the caller's own.
        """
        kind = method_of(method)
        try:
            if kind is Method.STATUS and len(message) <= QUESTION_BYTES:
                request, meant = self._question(message)
            else:
                request, meant = self._read(kind, message)
        except UnreadableRequestError as error:
            denies = kind is Method.PULL and self._config.fallback is Fallback.DENY
            return SettledCall(kind, "", _unreadable(str(error), denies=denies))
        return self._call(kind, request, meant, timeout_s, metadata)

    def stats(self) -> dict[str, Any]:
        """Cache `entries`, `hits`, `misses`; `rewrites`: (registry host, result) → pulls;
        `bytes`: registry host → bytes that came from it."""
        resolver = self._context.resolver
        return {
            "entries": len(resolver),
            "hits": resolver.hits,
            "misses": resolver.misses,
            "rewrites": dict(self._context.history.pulls),
            "bytes": dict(self._context.history.fetched),
        }

    def pulls(self) -> list[PullState]:
        """The pulls that are under way, the oldest first."""
        running = [one for one in self._context.transactions.values() if not one.ended]
        return sorted((one.state() for one in running), key=lambda state: state.started_at)

    def _read(self, kind: Method, message: bytes) -> tuple[ImageRequest, list[_Meaning]]:
        """A request, and what each image means that it names. Raises UnreadableRequestError."""
        request = ImageRequest(kind, message)
        return request, [
            self._means(image) if len(image) <= LONGEST_NAME else self._meaning(image)
            for image in request.images
        ]

    def _call(
        self,
        kind: Method,
        request: ImageRequest,
        meant: list[_Meaning],
        timeout_s: float | None,
        metadata: Metadata,
    ) -> ImageCall:
        if kind is Method.SANDBOX:
            return SandboxCall(self._context.pause, request, timeout_s)
        first = meant[0]
        if isinstance(first, Candidates) and kind is Method.PULL:
            return PullCall(self._context, request, first, timeout_s, metadata)
        images = [each if isinstance(each, Candidates) else None for each in meant]
        if isinstance(first, Candidates) or kind in {Method.REMOVE, Method.CREATE}:
            return FindCall(self._context, kind, request, images, timeout_s)
        verdict = self._untouched(kind, request.image, first)
        if kind is Method.PULL and first.image is not None:
            over = self._context.names.asked_for(first.image)
            return SettledCall(kind, request.image, verdict, over)
        return SettledCall(kind, request.image, verdict)

    def _meaning(self, text: str) -> _Meaning:
        """Where an image may come from, or why its name is not for the shim."""
        try:
            image = parse(text)
        except ReferenceSyntaxError as error:
            return _Untouched(f"no image name: {error.reason}")
        if isinstance(image, ImageID):
            return _Untouched("an image ID")
        candidates = candidates_of(image, self._config)
        if candidates.excluded_by is not None:
            return _Untouched(f"excluded by {candidates.excluded_by}", image)
        return candidates

    def _untouched(self, kind: Method, image: str, meant: _Untouched) -> Verdict:
        """A request for the runtime alone; refused where that would look for it on Docker Hub."""
        denies = kind is Method.PULL and self._config.fallback is Fallback.DENY
        if denies and meant.image is None:
            return _unreadable(f"{printable(image, NAME_LIMIT)}: {meant.why}", denies=True)
        return Verdict(AS_IT_CAME, image, "", meant.why)


def _unreadable(why: str, *, denies: bool) -> Verdict:
    """What we cannot read, the runtime may; under `deny` no name gets out unread."""
    if denies:
        text = f"image-cri-shim: {why}; such a pull is refused (fallback: deny)"
        return Verdict(Refuse(StatusCode.INVALID_ARGUMENT, text), "", "", why)
    return Verdict(AS_IT_CAME, "", "", why)
