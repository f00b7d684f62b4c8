"""PullImage: which name goes on, with whose credentials, and what is tried before.

A registry is proven while its last pull succeeded. Through a proven one, or when there is
nowhere else to go, the call goes straight on. Otherwise candidates are pulled on the side,
best first, and the call goes on with the name that worked.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import ExitStack
from typing import TYPE_CHECKING

from shimcore.config import Fallback
from shimcore.errors import RuntimeUnavailableError, ShimError
from shimcore.images.credentials import auth_for, secrets_of
from shimcore.images.decision import Forward, Refuse, Verdict
from shimcore.images.names import is_done
from shimcore.images.wording import reason, refusal
from shimcore.runtime.errors import RuntimeCallError, StatusCode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shimcore.images.messages import ImageRequest
    from shimcore.images.parts import Parts
    from shimcore.images.places import Candidate, Places
    from shimcore.images.resolver import Known, Survey

_NOT_THE_REGISTRY = frozenset(
    {StatusCode.CANCELLED, StatusCode.DEADLINE_EXCEEDED, StatusCode.UNAVAILABLE}
)
"""Ends of a forwarded pull for which the caller or a restarting runtime may be the cause; the
registry has to prove itself again, but its breaker is told nothing."""

_NOT_REACHED = (
    "connection refused",
    "connection reset",
    "no route to host",
    "no such host",
    "network is unreachable",
    "i/o timeout",
    "tls handshake timeout",
    "deadline exceeded",
)
"""What Go's network errors say in a runtime's text when a registry was not reached."""


class PullCall:
    """One held PullImage request.

    `deadline` is the loop's time at which work on the side ends; `bounded`: because the
    caller's own deadline is near it.
    """

    def __init__(
        self,
        parts: Parts,
        request: ImageRequest,
        places: Places,
        deadline: float,
        *,
        bounded: bool,
    ) -> None:
        self._parts = parts
        self._request = request
        self._places = places
        self._deadline = deadline
        self._bounded = bounded
        self._known: Known | None = None
        self._looked = False
        self._failures: dict[str, str] = {}
        self._leased: list[Candidate] = []
        self._through: Candidate | None = None

    def now(self) -> Verdict | None:
        """The verdict that needs no question: no candidates, or a remembered answer."""
        if not self._places.candidates:
            return self._last_place({})
        known = self._look()
        if known is None:
            return None
        if known.index is None:
            return self._last_place(known.reasons)
        if self._parts.names.brought is None and self._goes_straight(known.index, None):
            return self._go_through(self._places.candidates[known.index], "remembered")
        return None

    async def ask(self) -> Verdict:
        """The verdict after asking registries, and after pulls on the side if need be."""
        try:
            async with asyncio.timeout_at(self._deadline):
                return await self._ask()
        except TimeoutError:
            return self._last_place({}, "the time for this call is over")

    def finished(self, code: int, *, empty: bool) -> None:
        """Learns from the runtime's answer to the forwarded call; names the image after success."""
        candidate = self._through
        if candidate is None:
            if code == StatusCode.OK and self._places.candidates:
                self._parts.hints.seen(self._places.image, str(self._places.image))
        elif code == StatusCode.OK:
            self._count(candidate, "ok")
            self._succeeded(candidate)
            if not self._parts.names.enabled:
                self._parts.hints.seen(self._places.image, str(candidate.reference))
                return
            naming = self._parts.names.give(self._places.image, candidate.reference)
            self._parts.names.later(lambda: self._release_after(naming))
            return
        else:
            told = code not in _NOT_THE_REGISTRY
            self._count(candidate, "failed" if told else "cancelled")
            self._failed(candidate, reachable=True if told else None)
        self.abandoned()

    def abandoned(self) -> None:
        """Gives up the claim on names that pulls of this call brought."""
        if self._leased:
            self._parts.names.later(lambda: self._release(keep=False))

    def secrets(self) -> tuple[str, ...]:
        """The caller's secrets, for keeping them out of logs."""
        return self._request.secrets()

    async def _ask(self) -> Verdict:
        known = self._look()
        if known is not None:
            if known.index is None:
                return self._last_place(known.reasons)
            return await self._go(known.index, known.digest, None)
        resolver = self._parts.resolver
        with resolver.asking(self._places) as survey:
            index = await survey.next_found()
            resolver.settle(self._places, survey, index)
            if index is None:
                return self._last_place(survey.reasons())
            answer = survey.answer(index)
            return await self._go(index, answer.digest if answer else None, survey)

    async def _go(self, index: int, digest: str | None, survey: Survey | None) -> Verdict:
        candidate = self._places.candidates[index]
        if self._goes_straight(index, survey):
            await self._note_names(candidate, digest)
            return self._go_through(candidate, "the best that has it")
        return await self._fail_over(index, digest, survey)

    async def _fail_over(self, first: int, digest: str | None, survey: Survey | None) -> Verdict:
        """Pulls on the side, candidate by candidate, until one works.

        A candidate with others behind it gets its share of the time that is left: a registry
        that hangs in the middle of a blob looks, from here, like one that is slow.
        """
        tried: set[int] = set()
        index: int | None = first
        with ExitStack() as stack:
            while index is not None:
                candidate = self._places.candidates[index]
                tried.add(index)
                await self._note_names(candidate, digest)
                try:
                    share_s = self._share_s(index, tried, survey)
                    failure = await self._pull_aside(candidate, share_s)
                except RuntimeUnavailableError:
                    return self._go_through(candidate, "the runtime cannot be reached")
                if failure is None:
                    return self._go_through(candidate, "pulled")
                self._failures[candidate.registry.host] = failure
                if survey is None:
                    survey = stack.enter_context(self._parts.resolver.asking(self._places))
                index = await survey.next_found(tried)
                answer = survey.answer(index) if index is not None else None
                digest = answer.digest if answer else None
            return self._last_place(survey.reasons() if survey else {})

    async def _pull_aside(self, candidate: Candidate, share_s: float) -> str | None:
        """None when the pull succeeded, and the image has its name; else the reason.

        Raises RuntimeUnavailableError: a runtime that is gone is not the registry's failure,
        and the call goes on to hear it from the runtime itself.
        """
        message = self._message_for(candidate)
        secrets = (*secrets_of(candidate.registry), *self._request.secrets())
        try:
            async with asyncio.timeout(share_s):
                await self._parts.side_pulls.run(
                    hashlib.sha256(message).digest(),
                    lambda: self._parts.runtime.pull_image(message, timeout_s=share_s),
                )
        except TimeoutError:
            return self._failed_aside(candidate, f"not pulled within {share_s:.0f} s", False)
        except RuntimeCallError as error:
            text = reason(error.details, secrets)
            return self._failed_aside(candidate, text, _was_reached(error))
        self._count(candidate, "side-ok")
        self._succeeded(candidate)
        naming = self._parts.names.give(self._places.image, candidate.reference)
        await asyncio.wait({naming})
        return None

    def _share_s(self, index: int, tried: set[int], survey: Survey | None) -> float:
        """Seconds for one candidate: what is left, divided by the places still to be tried.

        The original counts only when the caller's own deadline would leave it no time.
        """
        left_s = max(0.0, self._deadline - asyncio.get_running_loop().time())
        if survey is None:
            behind = len(self._places.candidates) - len(tried)
        else:
            behind = survey.may_follow(index)
        return left_s / (1 + behind + (1 if self._bounded and self._original_allowed() else 0))

    def _goes_straight(self, index: int, survey: Survey | None) -> bool:
        if self._places.candidates[index].registry.host in self._parts.proven:
            return True
        if self._original_allowed():
            return False
        if survey is None:
            return len(self._places.candidates) == 1
        return survey.may_follow(index) == 0

    def _original_allowed(self) -> bool:
        return self._places.own is not None or self._parts.config.fallback is Fallback.ALLOW

    def _go_through(self, candidate: Candidate, why: str) -> Verdict:
        self._through = candidate
        if self._failures:
            why = f"{why}; {_told(self._failures)}"
        message = self._message_for(candidate)
        return Verdict(Forward(message), str(candidate.reference), candidate.registry.host, why)

    def _last_place(self, reasons: Mapping[str, str], why: str = "") -> Verdict:
        """The original name with the caller's credentials, or a refusal under `deny`."""
        places = self._places
        told = self._reasons_of_all(reasons)
        self._through = None
        image = self._request.image
        if not self._original_allowed() and places.excluded_by is None:
            code = _refusal_code(told, places, over=bool(why))
            refused = Refuse(code, refusal(image, told))
            return Verdict(refused, "", "", why or "no registry has it")
        if places.own is None:
            asked = {**reasons, **self._failures}
            why = "; ".join(part for part in (why, _told(asked)) if part)
            return Verdict(Forward(None), image, "", why or _nowhere(places))
        named = "names a configured registry"
        told_of = _told({**reasons, **self._failures})
        why = "; ".join(part for part in (named, why, told_of) if part)
        auth = auth_for(places.own, places.image)
        if auth is None or self._request.has_credentials:
            return Verdict(Forward(None), image, places.own.host, why)
        message = self._request.authorized(auth)
        why = why.replace(named, f"{named}, whose credentials were added", 1)
        return Verdict(Forward(message), image, places.own.host, why)

    def _reasons_of_all(self, reasons: Mapping[str, str]) -> dict[str, str]:
        """Host → why the image is not pulled there, for every configured registry."""
        told = {
            candidate.registry.host: "no answer in time" for candidate in self._places.candidates
        }
        skipped = {skip.registry.host: skip.reason for skip in self._places.skipped}
        return {**told, **skipped, **reasons, **self._failures}

    def _message_for(self, candidate: Candidate) -> bytes:
        auth = auth_for(candidate.registry, candidate.reference)
        return self._request.pulled_as(str(candidate.reference), auth)

    def _look(self) -> Known | None:
        if not self._looked:
            self._looked = True
            self._known = self._parts.resolver.known(self._places)
        return self._known

    async def _note_names(self, candidate: Candidate, digest: str | None) -> None:
        """Before a pull under `names: original`: which names are there without it."""
        brought = self._parts.names.brought
        if brought is None:
            return
        try:
            if not await self._parts.names.supported():
                return
        except ShimError:
            return
        self._leased.append(candidate)
        await brought.note(candidate.reference, digest, self)

    async def _release_after(self, naming: asyncio.Task[bool]) -> None:
        await asyncio.wait({naming})
        await self._release(keep=not is_done(naming))

    async def _release(self, *, keep: bool) -> None:
        brought = self._parts.names.brought
        leased, self._leased = self._leased, []
        if brought is not None:
            for candidate in leased:
                await brought.release(candidate.reference, self, keep=keep)

    def _succeeded(self, candidate: Candidate) -> None:
        self._parts.proven.add(candidate.registry.host)
        self._parts.registries.report_pull(candidate.registry, ok=True, reachable=True)

    def _failed(self, candidate: Candidate, *, reachable: bool | None) -> None:
        """`reachable` None: nobody knows whether the registry was the cause."""
        self._parts.proven.discard(candidate.registry.host)
        self._parts.resolver.drop(self._places.image)
        if reachable is not None:
            self._parts.registries.report_pull(candidate.registry, ok=False, reachable=reachable)

    def _failed_aside(self, candidate: Candidate, why: str, reachable: bool) -> str:
        self._count(candidate, "side-failed")
        self._failed(candidate, reachable=reachable)
        return f"pull failed ({why})"

    def _count(self, candidate: Candidate, outcome: str) -> None:
        self._parts.pulls[candidate.registry.host, outcome] += 1


def _was_reached(error: RuntimeCallError) -> bool:
    if error.code == StatusCode.DEADLINE_EXCEEDED:
        return False
    text = error.details.lower()
    return not any(sign in text for sign in _NOT_REACHED)


def _refusal_code(told: Mapping[str, str], places: Places, *, over: bool) -> StatusCode:
    """NOT_FOUND when every registry that serves the image said absent, else UNAVAILABLE.

    kubelet backs off and tries again after both; an operator reads the difference.
    """
    asked = [told.get(candidate.registry.host, "") for candidate in places.candidates]
    certain = all(why == "absent" or why.startswith("absent ") for why in asked)
    return StatusCode.NOT_FOUND if certain and not over else StatusCode.UNAVAILABLE


def _told(reasons: Mapping[str, str]) -> str:
    return "; ".join(f"{host}: {why}" for host, why in reasons.items())


def _nowhere(places: Places) -> str:
    if places.excluded_by is not None:
        return f"excluded by {places.excluded_by}"
    return "no registry serves it"
