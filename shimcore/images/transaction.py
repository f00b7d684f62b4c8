"""One pull, as a whole: registry after registry, until the image is there under its own name."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from shimcore.errors import RuntimeUnavailableError, ShimError
from shimcore.images.attempts import Attempt, Result, skipped
from shimcore.images.credentials import auth_for, secrets_of
from shimcore.images.namestore import Pulling
from shimcore.images.progress import LOOK_S, Progress
from shimcore.images.wording import reason, redacted
from shimcore.pb import cri_pb2
from shimcore.registry.answers import Outcome
from shimcore.runtime.errors import RuntimeCallError, StatusCode
from shimcore.runtime.messages import parsed
from shimcore.singleflight import heard

if TYPE_CHECKING:
    from collections.abc import Callable

    from shimcore.config import Names as Mode
    from shimcore.config import Registry
    from shimcore.images.candidates import Candidate, Candidates
    from shimcore.images.context import ImageContext
    from shimcore.images.messages import ImageRequest
    from shimcore.images.resolver import Probe
    from shimcore.runtime.channel import Metadata

SHARE_S = 75.0
"""The least time of a candidate where the runtime does not show how far a pull is; then its
registry is asked as often whether it is still there."""

SWEPT_WAITS_S = (0.2, 0.5, 1.0)
"""Before a pull is asked for again: the runtime's garbage collection takes some milliseconds,
and each pull that fails starts one more."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """A pull that succeeded: the runtime's PullImageResponse as it came, the name the image
    was pulled as, and the registry's host ("": the original's)."""

    response: bytes = field(repr=False)
    name: str
    host: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A pull that failed everywhere: the last status and words of the runtime.

    None where the runtime was not asked: no registry had the image, and its own is denied.
    """

    error: RuntimeCallError | None


@dataclass(frozen=True, slots=True)
class PullState:
    """How far a pull is: the image's own name, the host that it is pulled from now ("": none, or
    the original's), bytes on the node and in all (0: not known), since when (1970), and layers
    that are on the node whole, and in all (0: not known)."""

    image: str
    registry: str
    bytes: int
    total: int
    started_at: float
    layers: int = 0
    total_layers: int = 0


class StalledError(ShimError):
    """A transfer stands still, and there is somewhere else to go."""


class Transaction:
    """A pull of one image with one caller's credentials; several callers may wait for it.

    `attempts` are its registries so far, in order; `candidates` has those that it may try.
    `original`: whether its own name may be pulled when no registry has it. `names`: which the image
    is to have, where that is not the configuration's to say.
    """

    def __init__(
        self,
        context: ImageContext,
        request: ImageRequest,
        candidates: Candidates,
        metadata: Metadata = (),
        *,
        original: bool,
        names: Mode | None = None,
    ) -> None:
        self._context = context
        self._mode = names or context.config.names
        self._request = request
        self._candidates = candidates
        self._metadata = metadata
        self._original = original
        self._tried: dict[int, str | None] = {}  # and the digest that the registry gave
        self._others: tuple[Attempt, ...] = ()
        self._stalled: list[tuple[int, int]] = []  # bytes that were there, and the candidate
        self._probe: Probe | None = None
        self._settled = False
        self._error: RuntimeCallError | None = None
        self._counted: Progress | None = None  # of the pull that succeeded
        self.image = str(candidates.image)
        self.started_at = time.time()
        self.ended = False
        self.pulling: list[Attempt] = []  # what the runtime was asked for
        self.now: tuple[str, Progress] | None = None  # the host that is pulled from

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """What became of it at every registry of the configuration, as far as it is known."""
        known = [*skipped(self._candidates), *self._others, *self.pulling]
        if self.now is not None and self.now[0]:  # who looks now waits for it no longer
            host, progress = self.now
            known.append(Attempt(host, Result.CANCELLED, "", progress.fetched))
        by_host = {one.host: one for one in known}
        hosts = [candidate.registry.host for candidate in self._candidates.ranked]
        for one in known:
            if one.result is Result.CANCELLED and one.host in hosts:
                del hosts[hosts.index(one.host) :]  # those behind it were not waited for
        if self._probe is not None or not self._tried:
            by_host = {host: Attempt(host, Result.UNANSWERED) for host in hosts} | by_host
        return tuple(by_host.values())

    def state(self) -> PullState:
        """How far it is now."""
        host, progress = self.now or ("", None)
        if progress is None:
            return PullState(self.image, host, 0, 0, self.started_at)
        return PullState(
            self.image, host, progress.bytes, progress.total, self.started_at, *progress.layers
        )

    def passed_over(self, host: str) -> tuple[Attempt, ...]:
        """The attempts at registries that would have come before `host` ("": the original's)."""
        order = [candidate.registry.host for candidate in self._candidates.ranked]
        before = set(order[: order.index(host)] if host in order else order)
        return tuple(one for one in self.attempts if one.host in before)

    async def count(self) -> None:
        """After a pull that succeeded: brings the bytes of its attempt up to date."""
        progress, self._counted = self._counted, None
        if progress is not None:
            await progress.finish()
            pulled = self.pulling[-1] = replace(self.pulling[-1], bytes=progress.fetched)
            self._context.history.count_bytes(pulled.host, pulled.bytes)

    async def run(self) -> Pulled | Failed:
        """How it ended. Raises RuntimeUnavailableError; cancelled, it ends all its work."""
        ending, over = None, self._context.names.asked_for(self._candidates.image)
        try:
            with ExitStack() as stack:
                ending = await self._run(stack)
        except (asyncio.CancelledError, RuntimeUnavailableError):
            self._context.history.count(self.attempts)
            raise
        finally:
            self.ended = True
            over(isinstance(ending, Pulled))
        self._context.history.count(self.told(ending))
        return ending

    def told(self, ending: Pulled | Failed) -> tuple[Attempt, ...]:
        """What is told of a pull that ended so: of one that succeeded, what came before that."""
        if isinstance(ending, Failed):
            return self.attempts
        by_host = {one.host: one for one in (*self.passed_over(ending.host), *self.pulling)}
        return tuple(by_host.values())

    async def _run(self, stack: ExitStack) -> Pulled | Failed:
        while (index := await self._next(stack)) is not None:
            pulled = await self._through(index, may_leave=partial(self._has_more, stack))
            if pulled is not None:
                return pulled
        if self._original:
            pulled = await self._as_original(self._request.image)
            if pulled is not None:
                return pulled
        if self._stalled:
            _, index = max(self._stalled)
            pulled = await self._through(index, may_leave=lambda: False)
            if pulled is not None:
                return pulled
        return Failed(self._error)

    # -- which one is next -------------------------------------------------------------------

    async def _next(self, stack: ExitStack) -> int | None:
        """The best candidate that has it and was not tried yet."""
        resolver, candidates = self._context.resolver, self._candidates
        if not self._tried:
            known = resolver.known(candidates)
            if known is not None:
                self._others = known.others
                if known.index is not None:
                    self._tried[known.index] = known.digest
                return known.index
        if not candidates.ranked:
            return None
        probe = self._probe or self._begin_probe(stack)
        index = await probe.next_found(self._tried)
        if not self._settled:
            self._settled = True
            if not self._tried:
                resolver.settle(candidates, probe, index)
        self._others = probe.others()
        if index is not None:
            answer = probe.answer(index)
            self._tried[index] = answer.digest if answer else None
        return index

    def _begin_probe(self, stack: ExitStack) -> Probe:
        self._probe = stack.enter_context(self._context.resolver.probe(self._candidates))
        return self._probe

    def _has_more(self, stack: ExitStack) -> bool:
        """Whether it is known that there is somewhere to go when the present candidate stands
        still; those that were not asked are asked then."""
        if self._original:
            return True
        probe = self._probe or self._begin_probe(stack)  # what was remembered told of one alone
        return probe.found_beside(self._tried)

    # -- one pull ------------------------------------------------------------------------------

    async def _through(self, index: int, may_leave: Callable[[], bool]) -> Pulled | None:
        """The pull from one registry, with that registry's credentials; None when it failed."""
        candidate = self._candidates.ranked[index]
        registry, reference = candidate.registry, candidate.reference
        message = self._request.pulled_as(str(reference), auth_for(registry, reference))
        digest = reference.digest or self._tried.get(index)
        certain = reference.digest is not None or self._probe is not None
        progress = Progress(self._context.ingests, digest, certain=certain)
        started = time.monotonic()

        def ended(result: Result, detail: str = "") -> None:
            seconds = time.monotonic() - started
            self.pulling.append(Attempt(registry.host, result, detail, progress.fetched, seconds))

        try:
            pulled = await self._named_pull(candidate, message, progress, may_leave)
        except StalledError as error:
            self._stalled.append((progress.bytes, index))
            ended(Result.STALLED, self._failed(error, str(reference)))
        except RuntimeCallError as error:
            ended(Result.FAILED, self._failed(error, str(reference), registry))
        except (asyncio.CancelledError, RuntimeUnavailableError):
            ended(Result.CANCELLED)
            raise
        else:
            ended(Result.PULLED)
            self._counted = progress
            return pulled
        self._context.resolver.drop(self._candidates.image)
        return None

    async def _named_pull(
        self,
        candidate: Candidate,
        message: bytes,
        progress: Progress,
        may_leave: Callable[[], bool],
    ) -> Pulled:
        """A pull, and after it the names."""
        context, image = self._context, self._candidates.image
        registry, reference = candidate.registry, candidate.reference
        pulling = Pulling(image, reference, self._mode, partial(self._answer, message))
        async with context.names.pulling(pulling):
            response = await self._watched(
                message, registry.host, progress, registry.stall_timeout_s, may_leave, candidate
            )
            name = await context.names.give(pulling, _image_id(response))
        context.hints.seen(image, name)
        return Pulled(response, str(reference), registry.host)

    async def _as_original(self, name: str) -> Pulled | None:
        """The pull under the image's own name, with the caller's credentials or its registry's.

        `name`: as the caller wrote it; where the runtime takes no such name, the whole one is next.
        A login of ours goes out under the whole one alone: of another, CRI-O finds the registry.
        """
        own, image = self._candidates.source, self._candidates.image
        auth = auth_for(own, image)
        message = self._request.authorized(self.image, auth) or self._request.renamed([name])
        progress = Progress(self._context.ingests, image.digest)
        stall_s = (own or self._context.config).stall_timeout_s
        host = own.host if own is not None else ""
        started = time.monotonic()
        try:
            response = await self._watched(
                message, host, progress, stall_s, lambda: bool(self._stalled)
            )
        except StalledError as error:
            self._failed(error, self.image)
            return None
        except RuntimeCallError as error:
            if error.refuses_short_names and name != self.image:
                self._context.hints.short_names_refused = True
                return await self._as_original(self.image)
            detail = self._failed(error, self.image, own)
            if host:
                seconds = time.monotonic() - started
                self.pulling.append(Attempt(host, Result.FAILED, detail, 0, seconds))
            return None
        self._context.hints.seen(image, self.image)
        return Pulled(response, name, host)

    def _failed(
        self, error: StalledError | RuntimeCallError, name: str, registry: Registry | None = None
    ) -> str:
        """Keeps the failure of a pull as `name`; why it failed, as may be shown."""
        if isinstance(error, StalledError):
            self._error = RuntimeCallError(StatusCode.DEADLINE_EXCEEDED, f"{name}: {error}")
            return str(error)
        secrets = (*secrets_of(registry), *self._request.secrets())
        self._error = RuntimeCallError(error.code, redacted(error.details, secrets))
        return reason(error.details, secrets)

    async def _watched(
        self,
        message: bytes,
        host: str,
        progress: Progress,
        stall_s: float,
        may_leave: Callable[[], bool],
        candidate: Candidate | None = None,
    ) -> bytes:
        """The runtime's answer to a pull; StalledError when it stands still and may be left."""
        started = time.monotonic()
        ask_after_s = self._share_s()
        self.now = host, progress
        task = asyncio.ensure_future(self._answer(message))
        task.add_done_callback(heard)
        try:
            while True:
                await asyncio.wait({task}, timeout=LOOK_S)
                if task.done():
                    return task.result()
                await progress.look()
                seconds = time.monotonic() - started
                why = self._why_to_leave(progress, seconds, stall_s, may_leave)
                if not why and not progress.visible and seconds >= ask_after_s and may_leave():
                    ask_after_s = seconds + SHARE_S
                    why = await self._why_not_there(candidate)
                if why and not task.done():
                    raise StalledError(why)
        finally:
            self.now = None
            if not task.done():
                task.cancel()
                await asyncio.wait({task})

    async def _answer(self, message: bytes) -> bytes:
        """The runtime's answer; asked again where it swept up what an earlier pull had left.

        containerd deletes the layers of a pull that failed a moment after its answer. One that
        begins at once finds a layer there, and then finds its own next layer's parent gone.
        """
        pull_image = partial(
            self._context.runtime.pull_image, message, timeout_s=None, metadata=self._metadata
        )
        for wait_s in SWEPT_WAITS_S:
            try:
                return await pull_image()
            except RuntimeCallError as error:
                if not error.parent_was_swept and not error.name_was_taken:
                    raise
            await asyncio.sleep(wait_s)
        return await pull_image()

    def _why_to_leave(
        self, progress: Progress, seconds: float, stall_s: float, may_leave: Callable[[], bool]
    ) -> str:
        """Why a pull is given up now; "" while it goes on."""
        limit_s = self._context.config.timeout_s
        if not progress.visible:
            return f"not pulled within {limit_s:.0f} s (timeout)" if seconds >= limit_s else ""
        if progress.idle_s >= limit_s:
            return f"nothing has moved for {limit_s:.0f} s (timeout)"
        if progress.stands_still(stall_s) and may_leave():
            return f"nothing has come for {progress.idle_s:.0f} s"
        return ""

    def _share_s(self) -> float:
        """A candidate's part of `timeout`, when others are behind it."""
        behind = len(self._candidates.ranked) - len(self._tried) + self._original
        return max(SHARE_S, self._context.config.timeout_s / (1 + behind))

    async def _why_not_there(self, candidate: Candidate | None) -> str:
        """Why nothing is to be had of a candidate any more; "" where its registry has the image."""
        if candidate is None:
            return "others were faster"
        answer = await self._context.registries.head_manifest(
            candidate.registry, candidate.reference
        )
        return "" if answer.outcome is Outcome.FOUND else f"not pulled yet, and now {answer.detail}"


def _image_id(response: bytes) -> str:
    """The image's ID, where the runtime's answer to a pull is one (containerd's is)."""
    ref = parsed(cri_pb2.PullImageResponse, response).image_ref
    return ref if ref.startswith("sha256:") else ""
