"""PullImage: carried out on the side, registry after registry; then its caller gets the answer."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from shimcore.config import Fallback
from shimcore.errors import RuntimeUnavailableError
from shimcore.heldcall import AS_IT_CAME, Answer, Forward, Refuse
from shimcore.images.attempts import Attempt, Result, skipped
from shimcore.images.call import ImageCall, Method, Verdict
from shimcore.images.credentials import auth_for
from shimcore.images.history import Ending, Record
from shimcore.images.transaction import Failed, Pulled, Transaction
from shimcore.images.wording import (
    NAME_LIMIT,
    WHY_LIMIT,
    failure,
    listed,
    log_line,
    printable,
    reason,
    refusal,
)
from shimcore.runtime.errors import StatusCode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shimcore.images.candidates import Candidates
    from shimcore.images.context import ImageContext
    from shimcore.images.messages import ImageRequest
    from shimcore.runtime.channel import Metadata

logger = logging.getLogger("shimcore.images")


class PullCall(ImageCall):
    """One held PullImage request; `timeout_s` is what is left of the caller's deadline.

    `metadata` is the caller's own, which goes along.
    """

    reports_itself = True

    def __init__(
        self,
        context: ImageContext,
        request: ImageRequest,
        candidates: Candidates,
        timeout_s: float | None,
        metadata: Metadata,
    ) -> None:
        denies = context.config.fallback is Fallback.DENY
        super().__init__(Method.PULL, request.image, denies=denies)
        self._context = context
        self._request = request
        self._pod = request.pod
        self._candidates = candidates
        self._timeout_s = timeout_s
        self._metadata = metadata
        self._verdict: Verdict | None = None  # of a call that has gone on as it came
        self._over: Callable[[bool], None] | None = None

    def _now(self) -> Verdict | None:
        """The verdict of a pull that has no candidates; None where there are some."""
        if self._candidates.ranked:
            return None
        return self._without_candidates()

    async def _ask(self) -> Verdict:
        """The verdict after the pull, which callers share whose requests are alike."""
        # CRI-O has signature policies of namespaces.
        key = self._request.sharing_key(by_namespace=not self._context.runtime.store.seen)
        transaction = self._context.transactions.get(key)
        if transaction is None or transaction.ended or key not in self._context.pulls_under_way:
            transaction = self._context.transactions[key] = self._transaction()
        try:
            async with asyncio.timeout(self._left_s(self._timeout_s)):
                ending = await self._context.pulls_under_way.run(key, transaction.run)
        except TimeoutError:
            attempts, why = transaction.attempts, "the caller's deadline is over"
            refused = Refuse(StatusCode.DEADLINE_EXCEEDED, failure(why, attempts))
            return self._failed(attempts, refused, why)
        except RuntimeUnavailableError as error:
            refused = Refuse(StatusCode.UNAVAILABLE, str(error))
            return self._failed(transaction.attempts, refused, str(error))
        except asyncio.CancelledError:
            self._close(
                Ending.CANCELLED,
                StatusCode.CANCELLED,
                "cancelled",
                attempts=transaction.attempts,
                why="the caller is gone",
            )
            raise
        if isinstance(ending, Failed):
            refused = self._refusal(ending, transaction.attempts)
            why = reason(ending.error.details) if ending.error is not None else _DENIED
            return self._failed(transaction.attempts, refused, why)
        return self._pulled(transaction, ending)

    def _goes_on(self) -> None:
        super()._goes_on()
        self._pod = self._pod[: NAME_LIMIT + 1]
        del self._request, self._metadata

    def _transaction(self) -> Transaction:
        original = self._original_allowed()
        return Transaction(
            self._context, self._request, self._candidates, self._metadata, original=original
        )

    def _ended(self, code: int, *, empty: bool, message: str) -> None:
        """How the runtime answered a pull that went on as it came."""
        if self._over is not None:
            self._over(code == StatusCode.OK)
        if code == StatusCode.OK:
            self._context.hints.seen(self._candidates.image, str(self._candidates.image))
        if self._verdict is not None:
            why = "; ".join(part for part in (self._verdict.why, reason(message)) if part)
            outcome = "passed-on" if code == StatusCode.OK else f"failed({code})"
            ending = _ENDINGS.get(code, Ending.FAILED)
            name, host = self._verdict.name, self._verdict.registry
            self._close(ending, code, outcome, name=name, registry=host, why=why)

    # -- how it ended ----------------------------------------------------------------------

    def _pulled(self, transaction: Transaction, pulled: Pulled) -> Verdict:
        passed_over = transaction.passed_over(pulled.host)

        async def report() -> None:
            await transaction.count()
            self._close(
                Ending.PULLED,
                StatusCode.OK,
                "pulled",
                name=pulled.name,
                registry=pulled.host,
                attempts=transaction.told(pulled),
                passed_over=passed_over,
                fetched_bytes=sum(one.bytes for one in transaction.pulling),
            )

        self._context.names.later(report)
        return Verdict(Answer(pulled.response), pulled.name, pulled.host, listed(passed_over))

    def _failed(self, attempts: Sequence[Attempt], refused: Refuse, why: str) -> Verdict:
        code = int(refused.code)
        self._close(Ending.FAILED, code, f"failed({code})", attempts=attempts, why=why)
        return Verdict(refused, "", "", why)

    def _refusal(self, failed: Failed, attempts: Sequence[Attempt]) -> Refuse:
        if failed.error is None:
            code = _refusal_code(attempts, self._candidates)
            return Refuse(code, refusal(self._request.image, attempts))
        return Refuse(failed.error.code, failure(failed.error.details, attempts))

    def _without_candidates(self) -> Verdict:
        """As it came, its own registry's credentials added where it has none; or refused."""
        candidates, image = self._candidates, self._request.image
        if not self._original_allowed():
            attempts = skipped(candidates)
            refused = Refuse(StatusCode.NOT_FOUND, refusal(image, attempts))
            return self._failed(attempts, refused, _DENIED)
        self._over = self._context.names.asked_for(candidates.image)
        decision, why = AS_IT_CAME, "no registry serves it"
        if candidates.source is not None:
            why = "names a configured registry"
            decision = Forward(
                self._request.authorized(image, auth_for(candidates.source, candidates.image))
            )
            if decision.message is not None:
                why = f"{why}, whose credentials were added"
        host = candidates.source.host if candidates.source is not None else ""
        self._verdict = Verdict(decision, image, host, why)
        return self._verdict

    def _original_allowed(self) -> bool:
        return (
            self._candidates.source is not None or self._context.config.fallback is Fallback.ALLOW
        )

    def _close(
        self,
        ending: Ending,
        code: int,
        outcome: str,
        *,
        name: str = "",
        registry: str = "",
        attempts: Sequence[Attempt] = (),
        passed_over: Sequence[Attempt] = (),
        why: str = "",
        fetched_bytes: int = 0,
    ) -> None:
        """Put the pull into the history, and its line into the log.

        A WARNING when it failed or a registry was passed over, which that line tells then.
        """
        seconds = time.monotonic() - self._started
        record = Record(
            Method.PULL,
            self._image,
            ending,
            seconds,
            pod=self._pod,
            code=int(code),
            registry=registry,
            bytes=fetched_bytes,
            reason=why,
            attempts=tuple(attempts),
        )
        self._context.history.note(record)
        failed = ending is Ending.FAILED
        told = attempts if failed else passed_over
        said = "; ".join(part for part in (why, listed(told)) if part)
        judged = passed_over if ending is Ending.PULLED else attempts
        amiss = failed or any(one.result in _AMISS for one in judged)
        line = log_line(
            call=Method.PULL,
            image=printable(record.image, NAME_LIMIT),
            outcome=outcome,
            pod=printable(record.pod, NAME_LIMIT),
            name=printable(name, NAME_LIMIT),
            registry=registry,
            bytes=str(fetched_bytes),
            seconds=f"{seconds:.2f}",
            why=printable(said, WHY_LIMIT),
        )
        logger.log(logging.WARNING if amiss else logging.INFO, "%s", line)


_ENDINGS: dict[int, Ending] = {
    StatusCode.OK: Ending.PASSED_ON,
    StatusCode.CANCELLED: Ending.CANCELLED,
}

_DENIED = "no registry gives it, and its own is denied"

_AMISS = frozenset(set(Result) - {Result.PULLED, Result.SKIPPED, Result.ABSENT, Result.CANCELLED})
"""What is wrong with a registry that has not served: that an image is elsewhere is nothing."""


def _refusal_code(attempts: Sequence[Attempt], candidates: Candidates) -> StatusCode:
    """NOT_FOUND when every registry that serves the image said absent, else UNAVAILABLE.

    kubelet backs off and tries again after both; an operator reads the difference.
    """
    results = {attempt.host: attempt.result for attempt in attempts}
    asked = [results.get(candidate.registry.host) for candidate in candidates.ranked]
    certain = all(result is Result.ABSENT for result in asked)
    return StatusCode.NOT_FOUND if certain else StatusCode.UNAVAILABLE
