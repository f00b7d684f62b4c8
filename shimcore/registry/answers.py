"""What the registry client answers: plain values, importable without an HTTP library."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What a registry (or the rules before it) said about one candidate."""

    FOUND = "found"
    ABSENT = "absent"
    UNAUTHORIZED = "unauthorized"
    UNREACHABLE = "unreachable"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class ManifestAnswer:
    """One registry's answer about one manifest.

    `digest` is the registry's own (`sha256:…`) when the outcome is FOUND, else None; `detail` is
    one line for people, empty when there is nothing to explain.
    """

    outcome: Outcome
    digest: str | None
    elapsed_s: float
    detail: str


@dataclass(frozen=True, slots=True)
class TlsReport:
    """The TLS session and the certificate that a registry presented.

    `days_left` is negative once the certificate has expired; `verified` is False when the chain
    or the name was not checked or did not hold.
    """

    version: str
    issuer: str
    subject: str
    days_left: int
    verified: bool


@dataclass(frozen=True, slots=True)
class PingReport:
    """What `GET /v2/` and a real login told about one registry.

    `auth_scheme`: "none", "basic", "bearer", or "unknown" when it could not be learned.
    `login`: "accepted", "refused", "not configured", "not needed" or "unknown".
    """

    reachable: bool
    ok: bool
    auth_scheme: str
    login: str
    tls: TlsReport | None
    elapsed_s: float
    detail: str
