"""Image references: their grammar, their normal form, and how a registry's names are made.

Pure: nothing here reads a file, a socket or a clock.
"""

from __future__ import annotations

from shimcore.reference.hosts import (
    DOCKER_HUB_SERVER,
    WELL_KNOWN_REGISTRIES,
    is_docker_hub,
    is_well_known,
    normalised_host,
)
from shimcore.reference.parsing import parse, parse_reference, valid_domain, valid_path
from shimcore.reference.patterns import Patterns
from shimcore.reference.rewriting import (
    Mirror,
    Unmapped,
    is_excluded,
    rewrite,
    serves,
    template_fault,
)
from shimcore.reference.value import DOCKER_HUB, ImageID, Reference

__all__ = [
    "DOCKER_HUB",
    "DOCKER_HUB_SERVER",
    "WELL_KNOWN_REGISTRIES",
    "ImageID",
    "Mirror",
    "Patterns",
    "Reference",
    "Unmapped",
    "is_docker_hub",
    "is_excluded",
    "is_well_known",
    "normalised_host",
    "parse",
    "parse_reference",
    "rewrite",
    "serves",
    "template_fault",
    "valid_domain",
    "valid_path",
]
