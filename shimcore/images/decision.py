"""What an image call may become, and which gRPC methods are image calls."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

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
class Forward:
    """The call goes on with `message` (a serialized request; None: as it came)."""

    message: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """The call ends here with the message that the runtime gave to it on the side."""

    message: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Refuse:
    """The call ends here with a gRPC status; the only answer that is not the runtime's."""

    code: int
    text: str


Decision = Forward | Answer | Refuse


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision and what the log says of it; `name` and `registry` are "" where there is none."""

    decision: Decision
    name: str
    registry: str
    why: str
