"""What each image call means: found on the node, pulled from the best registry, named after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shimcore.images.decision import METHODS

if TYPE_CHECKING:
    from shimcore.images.call import ImageCall
    from shimcore.images.explanation import CandidateReport, Resolution, explain, shared_names
    from shimcore.images.service import ImageService

__all__ = [
    "METHODS",
    "CandidateReport",
    "ImageCall",
    "ImageService",
    "Resolution",
    "explain",
    "shared_names",
]

_LATER = {
    "CandidateReport": "shimcore.images.explanation",
    "Resolution": "shimcore.images.explanation",
    "explain": "shimcore.images.explanation",
    "shared_names": "shimcore.images.explanation",
    "ImageCall": "shimcore.images.call",
    "ImageService": "shimcore.images.service",
}


def __getattr__(name: str) -> Any:
    """Imports the rest when it is first asked for: `--help` needs none of it (PEP 562)."""
    if name not in _LATER:
        raise AttributeError(name)
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(_LATER[name]), name)
