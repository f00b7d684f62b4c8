"""What would be pulled for an image, and why: every registry with its outcome."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from shimcore.config import Fallback
from shimcore.images.candidates import Candidate, Candidates, candidates_of
from shimcore.images.credentials import secrets_of
from shimcore.images.wording import reason
from shimcore.reference import ImageID, Reference, is_docker_hub, is_well_known, parse
from shimcore.registry.answers import ManifestAnswer, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shimcore.config import Config, Registry
    from shimcore.registry.client import RegistryClient


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
    rewritten: bool = False
    registry: str | None = None
    digest: str | None = None
    elapsed_ms: float = 0.0
    candidates: tuple[CandidateReport, ...] = ()
    warnings: tuple[str, ...] = ()

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
        return Resolution(text, str(image), str(image))
    candidates = candidates_of(image, config)
    asked = candidates.ranked
    if candidates.source is not None:
        asked = (*asked, Candidate(candidates.source, candidates.image))
    answers = await _answers(asked, registries)
    reports = _reports(candidates, asked, answers, config)
    elapsed_ms = _ms(time.monotonic() - started)
    found = Resolution(text, str(image), None, elapsed_ms=elapsed_ms, candidates=reports)
    for candidate, answer in zip(asked, answers, strict=True):
        if registries is None or answer.outcome is Outcome.FOUND:
            return replace(
                found,
                resolved=str(candidate.reference),
                rewritten=candidate.reference != image,
                registry=candidate.registry.host,
                digest=answer.digest,
                warnings=_warnings(image, candidate),
            )
    named = candidates.source is not None or candidates.excluded_by is not None
    denied = config.fallback is Fallback.DENY and not named
    return replace(found, resolved=None if denied else found.canonical)


async def _answers(
    asked: tuple[Candidate, ...], registries: RegistryClient | None
) -> list[ManifestAnswer]:
    if registries is None:
        return [ManifestAnswer(Outcome.SKIPPED, None, "not asked") for _ in asked]
    questions = (registries.head_manifest(each.registry, each.reference) for each in asked)
    return list(await asyncio.gather(*questions))


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


def shared_names(resolutions: Iterable[Resolution]) -> tuple[str, ...]:
    """Warnings about different images that would be pulled under one name."""
    by_name: dict[str, set[str]] = {}
    for resolution in resolutions:
        if resolution.resolved is not None:
            by_name.setdefault(resolution.resolved, set()).add(resolution.canonical)
    return tuple(
        f"{', '.join(sorted(images))} would all be pulled as {name}"
        for name, images in by_name.items()
        if len(images) > 1
    )
