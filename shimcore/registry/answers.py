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
    detail: str = ""
    elapsed_s: float = 0.0


class RegistryState(StrEnum):
    """What one registry is to the shim, in the words for people."""

    NOT_ASKED = "not asked yet"
    IN_USE = "in use"
    FAILING = "answers with errors"  # 429, 5xx, or nothing that a registry says
    LOGIN_REFUSED = "login refused"
    LOGIN_MISSING = "login missing"  # it wants one, and none is configured
    DOWN = "down"  # cannot be reached; left alone until it is tried again

    @property
    def usable(self) -> bool:
        """Whether images can be expected from it."""
        return self in (RegistryState.NOT_ASKED, RegistryState.IN_USE)


@dataclass(frozen=True, slots=True)
class RegistryHealth:
    """One registry's state, from the shim's own requests to it alone.

    `for_s`: how long it has been in that state. `reason`: the last failure's one line, why it is
    not in use, or what last went wrong before it was again; "" when nothing has. `retry_in_s`:
    only when DOWN, seconds until it is tried again, 0 when that is due or under way. `…_ago_s`:
    seconds since it last answered at all, and since the last failure; None for never.
    """

    state: RegistryState
    for_s: float
    reason: str
    retry_in_s: float | None
    answered_ago_s: float | None
    failed_ago_s: float | None


@dataclass(frozen=True, slots=True)
class TlsReport:
    """The TLS session and the certificate that a registry presented.

    `days_left` is negative once the certificate has expired; `verified` is False when the chain
    or the name was not checked or did not hold; `begins_in_days` is 0 once it is valid;
    `wrong_name`: it is for other names than the registry's. `authority`: "expired" or "not yet
    valid" where that is so of one above it, else "".
    """

    version: str
    issuer: str
    subject: str
    days_left: int
    verified: bool
    begins_in_days: int = 0
    wrong_name: bool = False
    authority: str = ""


@dataclass(frozen=True, slots=True)
class PingReport:
    """What `GET /v2/` and a real login told about one registry.

    `auth_scheme`: "none", "basic", "bearer", or "unknown" when it could not be learned.
    `login`: "accepted", "refused", "not configured", "not needed" or "unknown".
    """

    reachable: bool
    ok: bool
    auth_scheme: str = "unknown"
    login: str = "unknown"
    detail: str = ""
    tls: TlsReport | None = None
    elapsed_s: float = 0.0
