"""Which gRPC methods are image calls, and what is decided on one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shimcore.heldcall import Decision

API_VERSIONS = ("v1", "v1alpha2")
"""CRI versions that are served; their image messages are the same on the wire."""


class Method(StrEnum):
    """The calls that are opened."""

    PULL = "PullImage"
    STATUS = "ImageStatus"
    REMOVE = "RemoveImage"
    CREATE = "CreateContainer"
    SANDBOX = "RunPodSandbox"


_SERVICES = {
    Method.PULL: "ImageService",
    Method.STATUS: "ImageService",
    Method.REMOVE: "ImageService",
    Method.CREATE: "RuntimeService",
    Method.SANDBOX: "RuntimeService",
}

_BY_PATH = {
    f"/runtime.{api}.{service}/{method}": (method, api)
    for method, service in _SERVICES.items()
    for api in API_VERSIONS
}

METHODS: frozenset[str] = frozenset(_BY_PATH)
"""Full gRPC paths of the calls that are opened, both CRI versions."""


def method_of(path: str) -> tuple[Method, str]:
    """The method and the CRI version of a path in METHODS; KeyError for any other."""
    return _BY_PATH[path]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision and what the log says of it; `name` and `registry` are "" where there is none."""

    decision: Decision
    name: str
    registry: str
    why: str
