"""What a check comes to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Result(StrEnum):
    """How it is."""

    PASS = "PASS"  # noqa: S105 - no password
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, how it is, and what mends it ("" where nothing has to)."""

    check: str
    result: Result
    detail: str
    mend: str = ""


def passed(check: str, detail: str) -> Finding:
    """It is as it should be."""
    return Finding(check, Result.PASS, detail)


def warned(check: str, detail: str, mend: str) -> Finding:
    """It works, or may work, and should be looked at."""
    return Finding(check, Result.WARN, detail, mend)


def failed(check: str, detail: str, mend: str) -> Finding:
    """It stands between a pod and its image."""
    return Finding(check, Result.FAIL, detail, mend)
