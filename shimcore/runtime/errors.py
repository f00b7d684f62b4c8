"""What a runtime can answer instead of an answer: a gRPC status; and gRPC's status codes."""

from __future__ import annotations

import re
from enum import IntEnum

from shimcore.errors import RuntimeUnavailableError, ShimError

HEAD_LIMIT, TAIL_LIMIT = 4096, 8192
"""Characters that are kept of a longer text of the runtime: what a registry says, of any length,
is a part of it."""

_NAME_TAKEN = re.compile(r"failed to create image reference|from containerd image store")
# containers/image, pkg/shortnames; an image may have "short-name" in its own name.
_SHORT_NAME = re.compile(
    r'short-name "[^"]*" did not resolve to an alias|short name mode is enforcing, but image name '
)
_PARENT_SWEPT = re.compile(r"parent snapshot \S+ does not exist")


class StatusCode(IntEnum):
    """gRPC's status codes (grpc/doc/statuscodes.md), for those who do not import grpc."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class RuntimeCallError(ShimError):
    """The runtime answered a call with a status other than OK.

    `code` is gRPC's number (see `StatusCode`), `details` the runtime's text, without the middle
    of a long one.
    """

    def __init__(self, code: int, details: str) -> None:
        if len(details) > HEAD_LIMIT + TAIL_LIMIT:
            details = _shortened(details)
        super().__init__(f"the runtime answered {_code_name(code)}: {details}")
        self.code = code
        self.details = details

    @property
    def name_was_taken(self) -> bool:
        """Whether a pull found its own new name gone: another pull of that name took it away."""
        return self.code == StatusCode.NOT_FOUND and bool(_NAME_TAKEN.search(self.details))

    @property
    def refuses_short_names(self) -> bool:
        """Whether a name without a registry is none to the runtime (CRI-O's words)."""
        return _SHORT_NAME.search(self.details) is not None

    @property
    def parent_was_swept(self) -> bool:
        """Whether a pull failed since the layer below was deleted by then (containerd's words)."""
        return _PARENT_SWEPT.search(self.details) is not None


class ForbiddenRuntimeError(RuntimeUnavailableError):
    """The runtime's socket is not for this user."""

    def __init__(self, socket: str) -> None:
        super().__init__(f"{socket}: permission denied; run this as root")


class SeveralRuntimesError(RuntimeUnavailableError):
    """More than one runtime is on the node, so none is taken; `sockets` are theirs."""

    def __init__(self, sockets: tuple[str, ...]) -> None:
        super().__init__(
            f"more than one container runtime is here: {', '.join(sockets)};"
            " set `cri:` in the configuration to the one that kubelet shall use"
        )
        self.sockets = sockets


class NoCriError(RuntimeUnavailableError):
    """What listens at the known places, `sockets`, has no CRI."""

    def __init__(self, sockets: tuple[str, ...]) -> None:
        super().__init__(
            f"no container runtime found: {', '.join(sockets)} has no CRI; is the CRI plugin"
            " disabled in containerd's configuration, or cri-dockerd not running?"
        )
        self.sockets = sockets


def _shortened(details: str) -> str:
    """The text's two ends in whole words: a part of a secret would not be known for one."""
    head = details[:HEAD_LIMIT].rpartition(" ")[0]
    tail = details[-TAIL_LIMIT:].partition(" ")[2]
    return f"{head} … {tail}"


def _code_name(code: int) -> str:
    try:
        return StatusCode(code).name
    except ValueError:
        return f"status {code}"
