"""Where an image may come from: its candidates under a config, and its source registry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shimcore.reference import (
    Reference,
    Unmapped,
    is_docker_hub,
    is_excluded,
    is_well_known,
    rewrite,
)

if TYPE_CHECKING:
    from shimcore.config import Config, Registry


@dataclass(frozen=True, slots=True)
class Candidate:
    """The name that an image has on one registry."""

    registry: Registry
    reference: Reference


@dataclass(frozen=True, slots=True)
class Skipped:
    """A registry that is not asked for an image, and why."""

    registry: Registry
    reason: str


@dataclass(frozen=True, slots=True)
class Candidates:
    """An image's candidates, `ranked` best first, and what stands beside them.

    `source` is the configured registry that the image already names, asked last. A private one
    is named on purpose: then there are no candidates. A well-known public one is what a
    bare `nginx` names as well, and the other registries are asked before it. `excluded_by` is
    the pattern that keeps the image from being rewritten.
    """

    image: Reference
    ranked: tuple[Candidate, ...]
    skipped: tuple[Skipped, ...]
    source: Registry | None
    excluded_by: str | None


def candidates_of(image: Reference, config: Config) -> Candidates:
    """The candidates of an image under a config, in the order of priority."""
    pattern = is_excluded(image, config.exclude)
    if pattern is not None:
        why = f"excluded by the pattern {pattern}"
        return Candidates(image, (), _all_skipped(config.registries, why), None, pattern)
    source = source_registry(image, config.registries)
    if source is not None and not is_well_known(source.host):
        others = [registry for registry in config.registries if registry is not source]
        why = f"the image names {source.host}, a configured registry"
        return Candidates(image, (), _all_skipped(others, why), source, None)
    by_name: dict[str, Candidate] = {}
    skipped: list[Skipped] = []
    for registry in config.registries:
        if registry is source:
            continue
        mapped = rewrite(image, registry.mirror)
        if isinstance(mapped, Unmapped):
            skipped.append(Skipped(registry, mapped.reason))
        elif str(mapped) in by_name:
            skipped.append(Skipped(registry, f"{mapped} is asked for already"))
        else:
            by_name[str(mapped)] = Candidate(registry, mapped)
    return Candidates(image, tuple(by_name.values()), tuple(skipped), source, None)


def source_registry(image: Reference, registries: Sequence[Registry]) -> Registry | None:
    """The configured registry whose host the image names; Docker Hub's hosts are one."""
    for registry in registries:
        if image.domain.lower() == registry.host.lower():
            return registry
        if is_docker_hub(image.domain) and is_docker_hub(registry.host):
            return registry
    return None


def _all_skipped(registries: Sequence[Registry], reason: str) -> tuple[Skipped, ...]:
    return tuple(Skipped(registry, reason) for registry in registries)
