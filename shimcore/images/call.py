"""The calls that are opened, and one of them from its opening to the runtime's answer."""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import NamedTuple

from shimcore.heldcall import AS_IT_CAME, Answer, Decision, Forward, Refuse
from shimcore.images.wording import NAME_LIMIT, WHY_LIMIT, log_line, printable
from shimcore.runtime.errors import StatusCode

logger = logging.getLogger("shimcore.images")

API_VERSIONS = ("v1", "v1alpha2")
"""CRI versions that are served; their image messages are the same on the wire."""


class Method(StrEnum):
    """The calls that are opened."""

    PULL = "PullImage"
    STATUS = "ImageStatus"
    REMOVE = "RemoveImage"
    CREATE = "CreateContainer"
    SANDBOX = "RunPodSandbox"


_SERVICES = {
    "ImageService": (Method.PULL, Method.STATUS, Method.REMOVE),
    "RuntimeService": (Method.CREATE, Method.SANDBOX),
}

_BY_PATH = {
    f"/runtime.{api}.{service}/{method}": method
    for service, methods in _SERVICES.items()
    for method in methods
    for api in API_VERSIONS
}

METHODS: frozenset[str] = frozenset(_BY_PATH)
"""Full gRPC paths of the calls that are opened, both CRI versions."""


def method_of(path: str) -> Method:
    """The method of a path in METHODS; KeyError for any other."""
    return _BY_PATH[path]


class Verdict(NamedTuple):
    """A decision and what the log says of it; `name` and `registry` are "" where there is none."""

    decision: Decision
    name: str
    registry: str
    why: str


class ImageCall(ABC):
    """What one request becomes; there is a class for each kind of call.

    Ask `decide_now` first, `decide` when that gives None; then tell `finished`, also with
    CANCELLED when the caller went away after the request had gone on. `denies`: after an
    unexpected error it is refused, since its name must not get out.
    """

    reports_itself = False
    """Whether the call has a log line of its own, after its end."""

    def __init__(self, method: Method, image: str, *, denies: bool = False) -> None:
        self._method = method
        self._image = image
        self._denies = denies
        self._started = time.monotonic()

    def _left_s(self, timeout_s: float | None) -> float | None:
        """What is left now of a time that the call had when it was opened."""
        return None if timeout_s is None else timeout_s - (time.monotonic() - self._started)

    @abstractmethod
    def _now(self) -> Verdict | None:
        """The verdict, if nobody has to be asked for it."""

    async def _ask(self) -> Verdict:
        """The verdict after asking; only of calls whose `_now` gives None."""
        raise NotImplementedError

    def _ended(self, code: int, *, empty: bool, message: str) -> None:  # noqa: B027
        """How the runtime answered, for those who want to know."""

    def _goes_on(self) -> None:
        """Its request is on its way: no more of it is kept than is told of the call at its end."""
        self._image = self._image[: NAME_LIMIT + 1]  # `printable` shows that it was longer

    def decide_now(self) -> Decision | None:
        """The decision, if nobody has to be asked; else None, and `decide` is needed."""
        try:
            verdict = self._now()
        except Exception:
            logger.exception("cannot decide %s %.320r", self._method, self._image)
            verdict = self._broken()
        if verdict is None:
            return None
        if verdict.decision is AS_IT_CAME and self._method is not Method.PULL:
            return self._logged(verdict, logging.DEBUG)  # nothing was decided: it is simply there
        return self._logged(verdict)

    async def decide(self) -> Decision:
        """The decision. Ends all its work when cancelled; raises nothing but CancelledError."""
        try:
            verdict = await self._ask()
        except asyncio.CancelledError:
            self._logged(Verdict(AS_IT_CAME, "", "", "the caller is gone"), decision="cancelled")
            raise
        except Exception:
            logger.exception("cannot decide %s %.320r", self._method, self._image)
            verdict = self._broken()
        return self._logged(verdict)

    def finished(self, code: int, empty: bool, message: str) -> None:
        """Takes in how the runtime answered: gRPC status, text, whether its message was empty."""
        try:
            self._ended(code, empty=empty, message=message)
        except Exception:
            logger.exception("cannot take in the end of %s %.320r", self._method, self._image)

    def _broken(self) -> Verdict:
        """After an unexpected error: the original, or a refusal where that must not get out."""
        if self._denies:
            refused = Refuse(StatusCode.INTERNAL, "image-cri-shim failed; its log says how")
            return Verdict(refused, "", "", "internal error")
        return Verdict(AS_IT_CAME, self._image, "", "internal error")

    def _logged(
        self, verdict: Verdict, level: int = logging.INFO, decision: str | None = None
    ) -> Decision:
        """The verdict's decision. Its line is written once the request is on its way: that takes
        as long as deciding from memory."""
        if not self.reports_itself and logger.isEnabledFor(level):
            elapsed_s = time.monotonic() - self._started
            line = partial(decision_line, self._method, self._image, verdict, elapsed_s, decision)
            asyncio.get_running_loop().call_soon(lambda: logger.log(level, line()))
        if isinstance(verdict.decision, Forward):
            self._goes_on()
        return verdict.decision


class SettledCall(ImageCall):
    """A call that needs no deciding; `over` is told at its end whether it has succeeded."""

    def __init__(
        self,
        method: Method,
        image: str,
        verdict: Verdict,
        over: Callable[[bool], None] | None = None,
    ) -> None:
        super().__init__(method, image)
        self._verdict = verdict
        self._over = over

    def _now(self) -> Verdict:
        return self._verdict

    def _goes_on(self) -> None:
        super()._goes_on()
        del self._verdict

    def _ended(self, code: int, *, empty: bool, message: str) -> None:
        if self._over is not None:
            self._over(code == StatusCode.OK)


def decision_line(
    call: str, image: str, verdict: Verdict, elapsed_s: float, decision: str | None = None
) -> str:
    """The one log line of a decision: key=value, values with spaces quoted.

    `decision` stands in for the verdict's own where there was none.
    """
    return log_line(
        call=call,
        image=printable(image, NAME_LIMIT),
        decision=decision or _decided(verdict),
        name=printable(verdict.name, NAME_LIMIT),
        registry=verdict.registry,
        why=printable(verdict.why, WHY_LIMIT),
        ms=f"{elapsed_s * 1000:.1f}",
    )


def _decided(verdict: Verdict) -> str:
    if isinstance(verdict.decision, Answer):
        return "answered"
    if isinstance(verdict.decision, Forward):
        return "as-is" if verdict.decision.message is None else "rewritten"
    return f"refused({int(verdict.decision.code)})"
