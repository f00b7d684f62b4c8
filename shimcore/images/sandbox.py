"""RunPodSandbox: the pods' pause image is on the node before the runtime wants it.

The runtime pulls that image itself, by its own name and past every CRI proxy: on a node that
reaches nothing but its hub no pod would start. Whatever goes wrong here, the call goes on.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from shimcore.config import Names
from shimcore.errors import ReferenceSyntaxError, ShimError
from shimcore.heldcall import AS_IT_CAME
from shimcore.images.call import ImageCall, Method, Verdict
from shimcore.images.candidates import Candidates, candidates_of
from shimcore.images.history import PAUSE, Ending, Record
from shimcore.images.messages import ImageRequest
from shimcore.images.transaction import Pulled, Transaction
from shimcore.images.wording import listed
from shimcore.jsontext import text_at, value_at
from shimcore.pb import cri_pb2
from shimcore.reference import parse_reference

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shimcore.images.context import ImageContext

logger = logging.getLogger("shimcore.images")

HOLD_LIMIT_S = 60.0
"""How long a sandbox is held at most; kubelet gives one four minutes."""

KNOWN_S = 60.0
"""How long it is taken for there without another look. Until then sandboxes are not even opened,
so that one which failed because the image was removed past the shim is not seen to."""

ASK_LIMIT_S = 5.0
"""Bound on one question to the runtime."""

_WANTED = re.compile(
    r'(?:rpc error: code = \w{1,32} desc = |failed to start sandbox "[^"\s]{1,128}": )*+'
    r'failed to (?:get sandbox|get|pull) image "(?P<name>[^"\s]{1,1024})"'
)
"""How containerd's RunPodSandbox begins: 2.x with the sandbox's ID. Further on may stand what the
pod's author has written, such as the path of a seccomp profile."""


class PauseImage:
    """What is known of the pause image; one pull of it for all that wait."""

    def __init__(self, context: ImageContext) -> None:
        self._context = context
        self._there_until = 0.0
        self._removals = 0  # until it was found there: the next one makes that uncertain
        self._left_alone_until = 0.0
        self._settings: Mapping[str, Any] | None = None
        self._learned = ""  # its name, from the words of a sandbox that failed
        self._task: asyncio.Task[None] | None = None

    @property
    def wanted(self) -> bool:
        """Whether a sandbox has to be held: nobody knows that the image is there."""
        there = self._there_until if self._removals == self._context.names.removals.count else 0.0
        return time.monotonic() >= max(there, self._left_alone_until)

    def forget(self) -> None:
        """A sandbox failed: it is looked for again."""
        self._there_until = 0.0

    def failed(self, message: str) -> None:
        """Learns from the runtime's words about a sandbox that did not start."""
        match = _WANTED.match(message)
        if match:
            self._learned = match["name"]
            self.forget()

    async def wait(self, handler: str) -> None:
        """Returns when it is there, or cannot be brought; raises nothing but CancelledError."""
        if not await self._is_for(handler):
            return
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._bring())
        await asyncio.wait({self._task})

    async def _is_for(self, handler: str) -> bool:
        """Whether a runtime handler's pods have the pause image, as far as the runtime tells."""
        try:
            if self._settings is None:
                self._settings = await self._context.runtime.settings(ASK_LIMIT_S)
            return _needs_it(self._settings, handler)
        except ShimError:
            return True

    async def _bring(self) -> None:
        why, self._removals = "", self._context.names.removals.count
        try:
            async with asyncio.timeout(HOLD_LIMIT_S):
                why = await self._ensure()
        except TimeoutError:
            why = f"not there within {HOLD_LIMIT_S:g} s"
        except ShimError as error:
            why = str(error)
        except Exception:
            logger.exception("looking for the pause image failed")
            why = "internal error"
        if why:
            self._settings = None  # what is told next may be what mends it
            left_s = self._context.config.negative_cache_ttl_s
            self._left_alone_until = time.monotonic() + left_s
            logger.warning("pause image: %s; pods' sandboxes go on without it", why)
        else:
            self._there_until = time.monotonic() + KNOWN_S

    async def _ensure(self) -> str:
        """Why the image is not there; "" when it is."""
        name = await self._name()
        if not name:
            return "its name is not known; set sandboxImage in the configuration"
        try:
            image = parse_reference(name)
        except ReferenceSyntaxError as error:
            return str(error)
        if await self._is_there(name):
            return ""
        candidates = candidates_of(image, self._context.config)
        if not candidates.ranked and candidates.source is None:
            return f"{name} is not on the node, and no registry serves it"
        return await self._pull(name, candidates)

    async def _is_there(self, name: str) -> bool:
        found = await self._context.runtime.image_status(name, timeout_s=ASK_LIMIT_S)
        return found is not None

    async def _pull(self, name: str, candidates: Candidates) -> str:
        """Why the runtime does not find it after a pull; "" when it does."""
        request = cri_pb2.PullImageRequest(image=cri_pb2.ImageSpec(image=name))
        call = ImageRequest(Method.PULL, request.SerializeToString())
        names = self._context.config.names
        pull = Transaction(
            self._context,
            call,
            candidates,
            original=candidates.source is not None,
            names=Names.BOTH if names is Names.REGISTRY else names,  # the runtime looks for its own
        )
        started = time.monotonic()
        ended = await pull.run()
        seconds = time.monotonic() - started
        record = partial(Record, PAUSE, name, seconds=seconds, attempts=pull.attempts)
        if isinstance(ended, Pulled):
            self._context.history.note(record(ending=Ending.PULLED, registry=ended.host))
            logger.info("pause image %s: pulled as %s", name, ended.name)
            if await self._is_there(name):
                return ""
            return (
                f"{ended.name} is on the node, but the runtime looks for {name}, and has no way to"
                " give that name: `image-cri-shim doctor` says how to tell it the other"
            )
        why = "" if ended.error is None else ended.error.details
        self._context.history.note(record(ending=Ending.FAILED, reason=why))
        return f"{name}: {listed(pull.attempts)}"

    async def _name(self) -> str:
        """The configuration's word, else the runtime's, else what a failed sandbox said."""
        name = self._context.config.sandbox_image or text_at(self._settings, "sandboxImage")
        return name or await self._context.runtime.sandbox_image(ASK_LIMIT_S) or self._learned


class SandboxCall(ImageCall):
    """One held RunPodSandbox request; it always goes on as it came."""

    def __init__(self, pause: PauseImage, request: ImageRequest, timeout_s: float | None) -> None:
        super().__init__(Method.SANDBOX, request.image)
        self._pause = pause
        self._handler = request.handler
        self._limit_s = HOLD_LIMIT_S if timeout_s is None else min(HOLD_LIMIT_S, timeout_s / 2)

    def _now(self) -> Verdict | None:
        """The verdict while the image is known to be there, or could not be brought just now."""
        return None if self._pause.wanted else _GOES_ON

    async def _ask(self) -> Verdict:
        """The verdict when the image is there, or the time for that is over."""
        try:
            async with asyncio.timeout(self._limit_s):
                await self._pause.wait(self._handler)
        except TimeoutError:
            logger.warning("pause image: a sandbox has waited for it for %.0f s", self._limit_s)
        return _GOES_ON

    def _goes_on(self) -> None:
        super()._goes_on()
        del self._handler

    def _ended(self, code: int, *, empty: bool, message: str) -> None:
        """A sandbox that failed for its image: it is looked for again."""
        if code:
            self._pause.failed(message)


_GOES_ON = Verdict(AS_IT_CAME, "", "", "")


def _needs_it(settings: Mapping[str, Any], handler: str) -> bool:
    """False for a handler that has no pause image."""
    name = handler or text_at(settings, "containerd", "defaultRuntimeName")
    runtime = value_at(settings, "containerd", "runtimes", name)
    if not isinstance(runtime, dict):
        return True
    return (runtime.get("sandboxer") or runtime.get("sandboxMode") or "podsandbox") == "podsandbox"
