"""What became of an image at each registry, as values; how they read, for logs and refusals."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from shimcore.images.credentials import secrets_of
from shimcore.images.wording import reason
from shimcore.registry.answers import ManifestAnswer

if TYPE_CHECKING:
    from shimcore.images.candidates import Candidate, Candidates


class Result(StrEnum):
    """How a registry served, or why it did not; every `Outcome` but FOUND is one of these."""

    PULLED = "pulled"
    FAILED = "failed"
    STALLED = "stalled"
    ABSENT = "absent"
    UNAUTHORIZED = "unauthorized"
    UNREACHABLE = "unreachable"
    SKIPPED = "skipped"
    UNANSWERED = "unanswered"
    CANCELLED = "cancelled"


_SAID = {
    Result.FAILED: "pull failed",
    Result.UNANSWERED: "no answer in time",
    Result.CANCELLED: "pull cancelled",
}


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


def skipped(candidates: Candidates) -> list[Attempt]:
    """The registries that are not asked for an image, and why."""
    return [Attempt(one.registry.host, Result.SKIPPED, one.reason) for one in candidates.skipped]


def not_found(candidate: Candidate, answer: ManifestAnswer) -> Attempt:
    """What a registry said that has not found the image."""
    detail = reason(answer.detail, secrets_of(candidate.registry))
    result = Result(answer.outcome)
    return Attempt(candidate.registry.host, result, detail, seconds=answer.elapsed_s)
