"""What the relay remembers of a call that it opened."""

from __future__ import annotations

from enum import Enum, auto

from shimcore.relay.events import Metadata
from shimcore.relay.messages import PREFIX_BYTES
from shimcore.relay.windows import Ledger


class Phase(Enum):
    """Where an opened call's request is."""

    GATHERING = auto()  # its message is not whole yet
    DECIDING = auto()  # whole, and the image side has been told
    RELEASED = auto()  # on its way to upstream, as it came or rewritten
    SWALLOWED = auto()  # answered without it: what the client still sends is dropped


class OpenedStream:
    """One opened call: the request bytes that are held and its own flow control."""

    __slots__ = (
        "answer",
        "answered",
        "answering",
        "awaited",
        "encoding",
        "ended",
        "gathered",
        "id",
        "inflated_bytes",
        "ledger",
        "long",
        "metadata",
        "metadata_bytes",
        "path",
        "phase",
        "reply",
        "strict",
        "timeout_s",
    )

    def __init__(
        self,
        stream: int,
        path: bytes,
        encoding: bytes,
        timeout_s: float | None,
        *,
        long: bool,
        strict: bool,
        windows: tuple[int, int],
    ) -> None:
        self.id = stream
        self.path = path
        self.encoding = encoding
        self.timeout_s = timeout_s
        self.long = long  # its decision may take as long as a pull
        self.strict = strict  # never goes on unread
        self.metadata: Metadata = ()
        self.metadata_bytes = 0
        self.ledger, self.reply = Ledger(windows[0]), Ledger(windows[1])
        self.phase = Phase.GATHERING
        self.gathered = bytearray()
        self.inflated_bytes = 0  # of a compressed message, until it is decided on
        self.ended = False  # the client has sent END_STREAM
        self.awaited = False  # someone waits for the outcome of the forwarded call
        self.answered = False  # upstream's first HEADERS have gone to the client
        self.answer = b""  # up to PREFIX_BYTES of the first message of the answer
        self.answering = False  # the shim's own answer is not with the client yet

    @property
    def holding(self) -> bool:
        """Whether request bytes of this call are kept back for a decision."""
        return self.phase is Phase.GATHERING or self.phase is Phase.DECIDING

    @property
    def answer_empty(self) -> bool:
        """Whether the answer's first message is whole and has no bytes."""
        return len(self.answer) == PREFIX_BYTES and not any(self.answer[1:])
