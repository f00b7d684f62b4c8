"""Image calls of one config: each held request becomes a call that decides."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Protocol

from shimcore.config import Fallback
from shimcore.errors import ReferenceSyntaxError
from shimcore.images.decision import Decision, Forward, Method, Refuse, Verdict, method_of
from shimcore.images.find import FindCall
from shimcore.images.history import History
from shimcore.images.messages import ImageRequest, UnreadableRequestError
from shimcore.images.names import Names
from shimcore.images.parts import call_deadline, make_parts
from shimcore.images.places import Places, places_of
from shimcore.images.pull import PullCall
from shimcore.images.sandbox import SandboxCall
from shimcore.images.wording import NAME_LIMIT, decision_line, printable
from shimcore.reference import ImageID, parse
from shimcore.reference.parsing import NAME_LIMIT as LONGEST_NAME
from shimcore.runtime.errors import StatusCode

if TYPE_CHECKING:
    from shimcore.config import Config
    from shimcore.images.explanation import Resolution
    from shimcore.images.ports import Registries, Runtime
    from shimcore.images.transaction import PullState
    from shimcore.runtime.channel import Metadata

logger = logging.getLogger("shimcore.images")


class _Question(Protocol):
    """One kind of call, as PullCall and FindCall are."""

    def now(self) -> Verdict | None: ...
    async def ask(self) -> Verdict: ...
    def finished(self, code: int, *, empty: bool, message: str) -> None: ...


class _Settled:
    """A question that needs no deciding."""

    def __init__(self, verdict: Verdict) -> None:
        self._verdict = verdict

    def now(self) -> Verdict:
        return self._verdict

    async def ask(self) -> Verdict:
        return self._verdict

    def finished(self, code: int, *, empty: bool, message: str) -> None:
        pass


MEANINGS = 4096
"""Names of images whose places are remembered; a node has some hundreds."""

_AS_IT_CAME = Forward(None)


class ImageCall:
    """One held request, from its opening to the runtime's answer.

    Ask `decide_now` first, `decide` when that gives None; then tell `finished`, also with
    CANCELLED when the caller went away after the request had gone on.
    """

    def __init__(self, method: Method, image: str, question: _Question, *, denies: bool) -> None:
        self._method = method
        self._image = image
        self._question = question
        self._denies = denies
        self._started = time.monotonic()

    def decide_now(self) -> Decision | None:
        """The decision, if nobody has to be asked; else None, and `decide` is needed."""
        try:
            verdict = self._question.now()
        except Exception:
            logger.exception("cannot decide %s %.320r", self._method, self._image)
            verdict = self._broken()
        if verdict is None:
            return None
        if verdict.decision == _AS_IT_CAME and self._method is not Method.PULL:
            return self._said(verdict, logging.DEBUG)  # nothing was decided: it is simply there
        return self._said(verdict)

    async def decide(self) -> Decision:
        """The decision. Ends all its work when cancelled; raises nothing but CancelledError."""
        try:
            verdict = await self._question.ask()
        except asyncio.CancelledError:
            self._log("cancelled", Verdict(Forward(None), "", "", "the caller is gone"))
            raise
        except Exception:
            logger.exception("cannot decide %s %.320r", self._method, self._image)
            verdict = self._broken()
        return self._said(verdict)

    def finished(self, code: int, empty: bool, message: str) -> None:
        """Takes in how the runtime answered: gRPC status, text, whether its message was empty."""
        try:
            self._question.finished(code, empty=empty, message=message)
        except Exception:
            logger.exception("cannot take in the end of %s %.320r", self._method, self._image)

    def _broken(self) -> Verdict:
        """After an unexpected error: the original, or a refusal where that must not get out."""
        if self._denies:
            refused = Refuse(StatusCode.INTERNAL, "image-cri-shim failed; its log says how")
            return Verdict(refused, "", "", "internal error")
        return Verdict(Forward(None), self._image, "", "internal error")

    def _said(self, verdict: Verdict, level: int = logging.INFO) -> Decision:
        self._log(None, verdict, level)
        return verdict.decision

    def _log(self, decision: str | None, verdict: Verdict, level: int = logging.INFO) -> None:
        """Write the decision's line, once the request is on its way: it takes as long as deciding
        from memory. A pull has its own, after its end."""
        if self._method is Method.PULL and self._question.__class__ is not _Settled:
            return
        if logger.isEnabledFor(level):
            elapsed_s = time.monotonic() - self._started
            line = partial(decision_line, self._method, self._image, verdict, elapsed_s, decision)
            asyncio.get_running_loop().call_soon(lambda: logger.log(level, line()))


class ImageService:
    """What image calls mean under one config; a reload makes a new one, which starts fresh.

    To be used inside a running event loop. `clock` gives seconds for the times to live.
    """

    def __init__(
        self,
        config: Config,
        registries: Registries,
        runtime: Runtime,
        names: Names | None = None,
        clock: Callable[[], float] = time.monotonic,
        history: History | None = None,
    ) -> None:
        self._config = config
        self._registries = registries
        names, history = names or Names(runtime), history or History()
        self._parts = make_parts(config, registries, runtime, names, history, clock)
        # The configuration of a service never changes, so neither does what a name means.
        self._means = lru_cache(maxsize=MEANINGS)(self._meaning)

    def opens(self, method: str) -> bool:
        """Whether calls of a method in METHODS are to be opened now."""
        return method_of(method)[0] is not Method.SANDBOX or self._parts.pause.wanted

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
            return ImageCall(kind, "", _Settled(_unreadable(str(error), denies)), denies=denies)
        question = self._question(kind, request, timeout_s, metadata)
        return ImageCall(kind, request.image, question, denies=denies)

    async def explain(self, image: str, *, offline: bool) -> Resolution:
        """What a pull of `image` would become; see `shimcore.images.explanation`."""
        from shimcore.images.explanation import explain  # noqa: PLC0415 - for an operator only

        registries = None if offline else self._registries
        return await explain(image, self._config, registries)

    def stats(self) -> dict[str, Any]:
        """Cache `entries`, `hits`, `misses`; `rewrites`: (registry host, result) → pulls;
        `bytes`: registry host → bytes that came from it."""
        resolver = self._parts.resolver
        return {
            "entries": len(resolver),
            "hits": resolver.hits,
            "misses": resolver.misses,
            "rewrites": dict(self._parts.pulls),
            "bytes": dict(self._parts.fetched),
        }

    def pulls(self) -> list[PullState]:
        """The pulls that are under way, the oldest first."""
        running = [one for one in self._parts.transactions.values() if not one.ended]
        return sorted((one.state() for one in running), key=lambda state: state.started_at)

    async def drain(self) -> None:
        """Returns when all names after finished pulls have been given."""
        await self._parts.names.drain()

    def _question(
        self, kind: Method, request: ImageRequest, timeout_s: float | None, metadata: Metadata
    ) -> _Question:
        if kind is Method.SANDBOX:
            return SandboxCall(self._parts.pause, request, timeout_s)
        meant = [
            self._means(image) if len(image) <= LONGEST_NAME else self._meaning(image)
            for image in request.images
        ]
        if all(isinstance(places, str) for places in meant) and kind is not Method.REMOVE:
            return self._untouched(kind, request, str(meant[0]))
        if kind is Method.PULL and isinstance(meant[0], Places):
            return PullCall(self._parts, request, meant[0], timeout_s, metadata)
        images = [places if isinstance(places, Places) else None for places in meant]
        return FindCall(self._parts, kind, request, images, call_deadline(self._config, timeout_s))

    def _meaning(self, text: str) -> Places | str:
        """Where an image may come from, or why its name is not for the shim."""
        try:
            image = parse(text)
        except ReferenceSyntaxError as error:
            return f"no image name: {error.reason}"
        if isinstance(image, ImageID):
            return "an image ID"
        places = places_of(image, self._config)
        if places.excluded_by is not None:
            return f"excluded by {places.excluded_by}"
        return places

    def _untouched(self, kind: Method, request: ImageRequest, why: str) -> _Settled:
        """A request for the runtime alone."""
        verdict = Verdict(Forward(None), request.image, "", why)
        if kind is Method.PULL and self._denies_untouched(request.image):
            return _Settled(_unreadable(f"{printable(request.image, NAME_LIMIT)}: {why}", True))
        return _Settled(verdict)

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
