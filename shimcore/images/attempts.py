"""What became of an image at each registry, as values; how they read, for logs and refusals."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from shimcore.images.credentials import secrets_of
from shimcore.images.wording import reason
from shimcore.registry.answers import ManifestAnswer, Outcome

if TYPE_CHECKING:
    from shimcore.images.candidates import Candidate


class Result(StrEnum):
    """How a registry served, or why it did not."""

    PULLED = "pulled"
    FAILED = "failed"
    STALLED = "stalled"
    ABSENT = "absent"
    UNAUTHORIZED = "unauthorized"
    UNREACHABLE = "unreachable"
    SKIPPED = "skipped"
    UNANSWERED = "unanswered"


_SAID = {Result.FAILED: "pull failed", Result.UNANSWERED: "no answer in time"}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One registry's part in a pull; `bytes` and `seconds` are of the pull from it."""

    host: str
    result: Result
    detail: str = ""
    bytes: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        """`sealos.hub:5000: unreachable (connection refused)`."""
        more = f" ({self.detail})" if self.detail else ""
        return f"{self.host}: {_SAID.get(self.result, self.result)}{more}"


_OF_OUTCOME = {
    Outcome.ABSENT: Result.ABSENT,
    Outcome.UNAUTHORIZED: Result.UNAUTHORIZED,
    Outcome.UNREACHABLE: Result.UNREACHABLE,
    Outcome.SKIPPED: Result.SKIPPED,
}


def not_found(candidate: Candidate, answer: ManifestAnswer) -> Attempt:
    """What a registry said that has not found the image."""
    detail = reason(answer.detail, secrets_of(candidate.registry))
    return Attempt(
        candidate.registry.host, _OF_OUTCOME[answer.outcome], detail, seconds=answer.elapsed_s
    )
