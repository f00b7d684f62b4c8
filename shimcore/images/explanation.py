"""What would be pulled for an image, and why: every registry with its outcome."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from shimcore.config import Fallback
from shimcore.images.candidates import Candidate, Candidates, candidates_of
from shimcore.images.credentials import secrets_of
from shimcore.images.wording import reason
from shimcore.reference import ImageID, Reference, is_docker_hub, is_well_known, parse
from shimcore.registry.answers import ManifestAnswer, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shimcore.config import Config, Registry
    from shimcore.registry.client import RegistryClient

NOT_ASKED = "not asked"
"""Detail of a candidate whose registry was not to be asked (`--offline`)."""


@dataclass(frozen=True, slots=True)
class CandidateReport:
    """One registry: the name that the image has there ("" if none) and what it said."""

    registry: str
    reference: str
    priority: int
    outcome: str
    digest: str | None
    elapsed_ms: float
    detail: str


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a pull of `image` would become.

    `resolved` is the name that would be pulled, None when there is none; `registry` the host
    of the configured registry that it would come from.
    """

    image: str
    canonical: str
    resolved: str | None
    rewritten: bool
    registry: str | None
    digest: str | None
    elapsed_ms: float
    candidates: tuple[CandidateReport, ...]
    warnings: tuple[str, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """FOUND: a registry has it. ABSENT: none has it. UNREACHABLE: could not tell.

        SKIPPED: nobody was asked, as with `--offline`.
        """
        outcomes = [report.outcome for report in self.candidates]
        if Outcome.FOUND in outcomes:
            return Outcome.FOUND
        if any(each in (Outcome.UNREACHABLE, Outcome.UNAUTHORIZED) for each in outcomes):
            return Outcome.UNREACHABLE
        if any(report.detail == NOT_ASKED for report in self.candidates):
            return Outcome.SKIPPED
        return Outcome.ABSENT

    def as_dict(self) -> dict[str, Any]:
        """The fixed keys of `resolve`'s JSON; warnings are for people and not among them."""
        plain = asdict(self)
        del plain["warnings"]
        plain["candidates"] = list(plain["candidates"])
        return plain


async def explain(
    text: str, config: Config, registries: RegistryClient | None = None
) -> Resolution:
    """Every registry's answer about an image; waits for all of them.

    Without `registries` none is asked: each candidate is `skipped`, and `resolved` is the
    name that would be asked for first. Raises ReferenceSyntaxError.
    """
    started = time.monotonic()
    image = parse(text)
    if isinstance(image, ImageID):
        return Resolution(text, str(image), str(image), False, None, None, 0.0, ())
    candidates = candidates_of(image, config)
    asked = _asked(candidates)
    answers = await _answers(asked, registries)
    reports = _reports(candidates, asked, answers, config)
    chosen = _chosen(asked, answers, offline=registries is None)
    elapsed_ms = _ms(time.monotonic() - started)
    return _resolution(text, candidates, chosen, reports, elapsed_ms, config)


def _asked(candidates: Candidates) -> tuple[Candidate, ...]:
    """The candidates, and the registry that the image itself names as the last of them."""
    if candidates.source is None:
        return candidates.ranked
    return (*candidates.ranked, Candidate(candidates.source, candidates.image))


async def _answers(
    asked: tuple[Candidate, ...], registries: RegistryClient | None
) -> list[ManifestAnswer]:
    if registries is None:
        return [ManifestAnswer(Outcome.SKIPPED, None, 0.0, NOT_ASKED) for _ in asked]
    questions = (registries.head_manifest(each.registry, each.reference) for each in asked)
    return list(await asyncio.gather(*questions))


def _chosen(
    asked: tuple[Candidate, ...], answers: list[ManifestAnswer], *, offline: bool
) -> tuple[Candidate, str | None] | None:
    """The candidate that would be pulled, with its digest."""
    for candidate, answer in zip(asked, answers, strict=True):
        if offline or answer.outcome is Outcome.FOUND:
            return candidate, answer.digest
    return None


def _reports(
    candidates: Candidates,
    asked: tuple[Candidate, ...],
    answers: list[ManifestAnswer],
    config: Config,
) -> tuple[CandidateReport, ...]:
    """One report for each configured registry, in the order of priority."""
    reports: dict[str, CandidateReport] = {}
    for candidate, answer in zip(asked, answers, strict=True):
        registry = candidate.registry
        reports[registry.address] = CandidateReport(
            registry.host,
            str(candidate.reference),
            registry.priority,
            answer.outcome.value,
            answer.digest,
            _ms(answer.elapsed_s),
            reason(answer.detail, secrets_of(registry)),
        )
    for skip in candidates.skipped:
        registry = skip.registry
        reports[registry.address] = CandidateReport(
            registry.host, "", registry.priority, Outcome.SKIPPED.value, None, 0.0, skip.reason
        )
    order = [registry.address for registry in config.registries]
    return tuple(reports[address] for address in order if address in reports)


def _resolution(
    text: str,
    candidates: Candidates,
    chosen: tuple[Candidate, str | None] | None,
    reports: tuple[CandidateReport, ...],
    elapsed_ms: float,
    config: Config,
) -> Resolution:
    canonical = str(candidates.image)
    if chosen is not None:
        candidate, digest = chosen
        name = str(candidate.reference)
        warnings = _warnings(candidates.image, candidate)
        host = candidate.registry.host
        rewritten = name != canonical
        return Resolution(
            text, canonical, name, rewritten, host, digest, elapsed_ms, reports, warnings
        )
    denied = (
        config.fallback is Fallback.DENY
        and candidates.source is None
        and candidates.excluded_by is None
    )
    resolved = None if denied else canonical
    return Resolution(text, canonical, resolved, False, None, None, elapsed_ms, reports)


def _warnings(image: Reference, candidate: Candidate) -> tuple[str, ...]:
    """A warning when Docker Hub's images, or those of other domains, share the name.

    Docker Hub's own are the ones that a bare path means everywhere; they are not warned of.
    """
    registry = candidate.registry
    if is_docker_hub(image.domain) or candidate.reference == image:
        return ()
    if not _mixes_domains(registry):
        return ()
    return (
        f"{registry.host} keeps no domains apart: {image.path} of any domain that it serves is"
        f" {candidate.reference.name}; a `path` with {{domain}} would tell them apart",
    )


def _mixes_domains(registry: Registry) -> bool:
    """True when the registry serves several source domains under one path."""
    mirror = registry.mirror
    if "{domain}" in mirror.path_template:
        return False
    if mirror.domains is None:
        return not is_well_known(mirror.host)
    return len(mirror.domains) > 1 or any("*" in domain for domain in mirror.domains)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def shared_names(resolutions: Mapping[str, Resolution]) -> tuple[str, ...]:
    """Warnings about different images that would be pulled under one name."""
    by_name: dict[str, set[str]] = {}
    for resolution in resolutions.values():
        if resolution.resolved is not None:
            by_name.setdefault(resolution.resolved, set()).add(resolution.canonical)
    return tuple(
        f"{', '.join(sorted(images))} would all be pulled as {name}"
        for name, images in by_name.items()
        if len(images) > 1
    )
