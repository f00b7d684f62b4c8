"""What both ends of a conversation have said and seen, and the bytes that are under way."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from h2.settings import SettingCodes

from shimcore.heldcall import Forward
from shimcore.relay.connection import Connection
from shimcore.relay.events import CallReady
from shimcore.relay.limits import SLICE_FRAMES
from shimcore.relay.route import Route
from shimcore.relay.scanner import ALL_FRAMES
from tests.support.h2_endpoint import Endpoint, reframe

Headers = list[tuple[bytes, bytes]]
OPENED = b"/images/Pull"
PLAIN = b"/runtime/Status"


@dataclass
class Call:
    """One call as the client makes it, and what both ends saw of it."""

    stream: int
    opened: bool
    body: bytes  # what the client sends in DATA
    unary: bool
    message: bytes | None  # the content of its first message; None: unreadable or none
    trailers: bool
    resets_after: int | None  # the client gives up after so many bytes
    first_bytes: int = 0  # length of the first message with its prefix
    sent: int = 0
    client_done: bool = False  # END_STREAM or RST_STREAM has gone out
    client_reset: bool = False
    decision: str = ""  # "forward", "refuse", "answer", "cancelled"
    untold: bool = False  # let go while its message was still being inflated
    expected: bytes | None = None  # the request that upstream has to get; None: `body`
    refusal: tuple[int, bytes] | None = None
    answer: bytes = b""  # the DATA that the shim answers with
    # upstream's side
    arrived: bool = False
    received: bytearray = field(default_factory=bytearray)
    request_ended: bool = False
    request_reset: bool = False
    reply: list[tuple[str, object]] = field(default_factory=list)  # still to be sent
    answers_early: bool = False
    headers_out: list[Headers] = field(default_factory=list)
    data_out: bytearray = field(default_factory=bytearray)
    reply_done: bool = False
    reply_reset: bool = False
    # the client's side
    headers_in: list[Headers] = field(default_factory=list)
    data_in: bytearray = field(default_factory=bytearray)
    response_ended: bool = False
    response_reset: bool = False


class Talk:
    """Two endpoints, the core between them, and a generator from which all that is random comes.

    `knows`: the share of calls that are decided on at once; None for any. `swells`: that of
    compressed messages that inflate to more than is inflated at once.
    """

    def __init__(self, seed: int, knows: float | None = None, swells: float = 0.5) -> None:
        self.known = random.Random(~seed)
        self.swells = swells
        self.knows = self.known.choice([0, 0.5, 1]) if knows is None else knows
        self.random = random.Random(seed)
        choose = self.random.choice
        self.chunk = choose([1, 3, 20, 20, 200, 5000, 1 << 20])
        self.large = self.chunk >= 200 and self.random.random() < 0.3
        self.calm = self.random.random() < 0.3  # few odd things, so that much gets through
        self.client = Endpoint(client=True)
        self.server = Endpoint(client=False)
        self.core = Connection(
            lambda path: Route.OPEN if path == OPENED else Route.PASS, decide=self.decide_now
        )
        self.pipes: dict[str, bytearray] = {
            name: bytearray() for name in ("c>r", "r>u", "u>r", "r>c")
        }
        self.calls: dict[int, Call] = {}
        self.deciding: dict[int, CallReady] = {}
        self.ready: set[int] = set()
        self.awaiting: set[int] = set()
        self.credit: dict[str, dict[int, int]] = {"client": {}, "server": {}}
        self.notices: list[str] = []
        self.settings_seen = {"client": False, "server": False}
        self.settings: dict[str, dict[SettingCodes | int, int]] = {
            side: {
                SettingCodes.INITIAL_WINDOW_SIZE: 65_535,
                SettingCodes.HEADER_TABLE_SIZE: 4096,
                SettingCodes.MAX_FRAME_SIZE: 16_384,
            }
            for side in ("client", "server")
        }
        self.pings = {"client": 0, "server": 0}
        self.pongs = {"client": 0, "server": 0}
        self.at_once = choose([1, 2, SLICE_FRAMES, ALL_FRAMES])
        self.calls_left = self.random.randint(1, 25)
        self.max_calls_open = choose([1, 4, 100])

    def decide_now(self, event: CallReady) -> Forward | None:
        """What is decided on a call at once, if anything is."""
        raise NotImplementedError

    def collect(self) -> None:
        """Put what the endpoints have to send on the wire."""
        self.pipes["c>r"] += reframe(self.random, self.client.data_to_send(), client=True)
        self.pipes["u>r"] += reframe(self.random, self.server.data_to_send(), client=False)

    def metadata(self) -> Headers:
        return [
            (
                b"x-%d" % self.random.randint(0, 30),
                self.random.randbytes(self.random.choice([2, 60])).hex().encode(),
            )
            for _ in range(self.random.randint(0, 4))
        ]

    def owe(self, side: str, stream: int, size: int) -> None:
        for scope in (0, stream):
            self.credit[side][scope] = self.credit[side].get(scope, 0) + size
