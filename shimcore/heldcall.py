"""What a held call may become: the types in which the relay and those who decide speak."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Forward:
    """The call goes on with `message` (a serialized request; None: as it came)."""

    message: bytes | None = field(repr=False)


AS_IT_CAME = Forward(None)


@dataclass(frozen=True, slots=True)
class Answer:
    """The call ends here with status OK and the message that the runtime gave on the side."""

    message: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Refuse:
    """The call ends here with a gRPC status; the only answer that is not the runtime's."""

    code: int
    text: str


Decision = Forward | Answer | Refuse


class HeldCall(Protocol):
    """Decides on one held call. After a Forward it keeps no more of it than the image's name."""

    async def decide(self) -> Decision:
        """The decision; the coroutine is cancelled with the call."""

    def finished(self, code: int, empty: bool, message: str) -> None:
        """How the call that went on has ended: gRPC status, whether its message was empty, text."""
