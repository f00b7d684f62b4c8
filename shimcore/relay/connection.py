"""The connection core: bytes in and out on both sides, events out, decisions in. No I/O.

One client connection and its own upstream connection. Every frame goes to the other side
in order, as the bytes that came; only the request DATA of opened calls is held, and goes
on when the caller of this class has decided (`forward`, `refuse`, `answer`).
"""

from __future__ import annotations

from collections.abc import Callable

from shimcore.errors import FrameError
from shimcore.heldcall import AS_IT_CAME, Answer, Decision, Refuse
from shimcore.relay import frames
from shimcore.relay.answers import Answers
from shimcore.relay.budget import Budget
from shimcore.relay.client_to_upstream import ClientToUpstream
from shimcore.relay.clients import Client
from shimcore.relay.events import CallReady, Event
from shimcore.relay.limits import HELD_SHARE_BYTES, PROCESS_HELD_BYTES
from shimcore.relay.messages import (
    GRPC_CANCELLED,
    GRPC_RESOURCE_EXHAUSTED,
    GRPC_UNAVAILABLE,
    PREFIX_BYTES,
    write_message,
)
from shimcore.relay.opened import Phase
from shimcore.relay.route import Route
from shimcore.relay.scanner import ALL_FRAMES, Scanner
from shimcore.relay.settings import AnnouncedSettings
from shimcore.relay.streams import ConnectionState
from shimcore.relay.upstream_to_client import UpstreamToClient

TOO_MUCH = "image-cri-shim: too many bytes of image requests are held"


def held_budget() -> Budget:
    """What all connections of a process may hold."""
    return Budget(PROCESS_HELD_BYTES, HELD_SHARE_BYTES)


class Connection:
    """Relays one connection. `route` says of a method path what becomes of its calls.

    `strict` says whether there are calls that must not go on unread, so that a connection
    that would have to is closed. `count` is told the method of every call; `account` is
    whoever makes them. `decide` is asked when an opened call's request is whole; None, as
    without it, says that the decision comes later, by `settle`.

    A caller with others to serve gives `from_client` and `from_upstream` a number of frames
    at a time, and goes on with `more_from_client`, `more_from_upstream` and `inflate`.

    After every call, send what `take_to_client` and `take_to_upstream` give and look at
    `take_events`. Raises FrameError from `from_client` and `from_upstream` where a peer
    breaks a limit: then both sides are to be closed, the client with a GOAWAY.
    """

    def __init__(
        self,
        route: Callable[[bytes], Route],
        budget: Budget | None = None,
        strict: Callable[[], bool] = lambda: False,
        count: Callable[[bytes], None] | None = None,
        account: Client | None = None,
        decide: Callable[[CallReady], Decision | None] | None = None,
    ) -> None:
        client, upstream = AnnouncedSettings(), AnnouncedSettings()
        self._client_to_upstream = ClientToUpstream(client, upstream)
        self._upstream_to_client = UpstreamToClient(upstream, client)
        self._to_upstream = Scanner(self._client_to_upstream.handlers())
        self._to_client = Scanner(self._upstream_to_client.handlers(), locked=True)
        self._state = ConnectionState(
            self._to_client,
            self._to_upstream,
            route,
            budget or held_budget(),
            strict,
            count or _nobody,
            account or Client(),
            decide,
        )
        self._client_to_upstream.attach(self._state, self._upstream_to_client.decoder)
        self._upstream_to_client.attach(self._state, self._client_to_upstream.decoder)
        self._answers = Answers(self._state, self._upstream_to_client)
        self._state.refuse_call = self._answers.refuse
        self._state.settle_call = self.settle
        self._client_to_upstream.drop_answer = self._answers.drop
        self._preface_left = len(frames.PREFACE)
        # What `inflate` has something to do with, and `take_events` gives. Not to be changed.
        self.inflating = self._state.packed
        self.events = self._state.events
        # The connection's windows, of requests and of replies.
        self.requests = self._state.ledger
        self.replies = self._state.replies.ledger

    # -- bytes in ----------------------------------------------------------------------

    def from_client(self, data: bytes, limit: int = ALL_FRAMES) -> bool:
        """Bytes that the client sent, of which `limit` frames are gone through at the most.

        True when `more_from_client` is to be called before anything else of the client's
        comes. Raises FrameError.
        """
        if self._preface_left:
            data = self._pass_preface(data)
            if not data:
                return False
        state = self._state
        if state.lost and state.strict():  # it has become so since
            raise FrameError(frames.PROTOCOL_ERROR, "this connection is relayed unread")
        if state.replies.ledger.held:
            state.replies.queue.check()  # what this client has caused to wait
        more = self._to_upstream.feed(data, limit)
        if state.ledger.held or state.account_held.used:
            state.account()
        return more

    def more_from_client(self, limit: int = ALL_FRAMES) -> bool:
        """Go through the next of the client's frames; True when there still are more."""
        more = self._to_upstream.go_on(limit)
        self._state.account()
        return more

    def from_upstream(self, data: bytes, limit: int = ALL_FRAMES) -> bool:
        """Bytes that the runtime sent; otherwise as `from_client`."""
        more = self._to_client.feed(data, limit)
        if self._state.ledger.held or self._state.account_held.used:
            self._state.account()
        return more

    def more_from_upstream(self, limit: int = ALL_FRAMES) -> bool:
        """Go through the next of the runtime's frames; True when there still are more."""
        more = self._to_client.go_on(limit)
        self._state.account()
        return more

    def inflate(self) -> None:
        """Inflate a piece of the compressed messages that have come."""
        self._state.inflate()
        self._state.account()

    def _pass_preface(self, data: bytes) -> bytes:
        """RFC 9113 §3.4. What is not HTTP/2 is relayed as bytes, for upstream to refuse."""
        expected = frames.PREFACE[-self._preface_left :]
        part = data[: self._preface_left]
        if not expected.startswith(part):
            self._preface_left = 0
            self._state.lose("the client does not speak HTTP/2", frames.PROTOCOL_ERROR)
            self._to_upstream.drop_sight()
            self._to_client.drop_sight()
            return data
        self._preface_left -= len(part)
        self._to_upstream.out.append(part)
        return data[len(part) :]

    # -- bytes and events out ----------------------------------------------------------

    def take_to_client(self) -> list[bytes]:
        """Chunks for the client, in order."""
        taken, self._to_client.out = self._to_client.out, []
        return taken

    @property
    def only_an_ack(self) -> bool:
        """Whether all that there is for the client is one answer to its PING, and a call runs."""
        out, state = self._to_client.out, self._state
        return len(out) == 1 and out[0] is state.last_ack and bool(state.live)

    def take_to_upstream(self) -> list[bytes]:
        """Chunks for the runtime, in order."""
        taken, self._to_upstream.out = self._to_upstream.out, []
        return taken

    def take_events(self) -> list[Event]:
        """What happened since the last call, in order."""
        taken = self.events.copy()
        self.events.clear()
        return taken

    # -- decisions in ------------------------------------------------------------------

    def without_room(self, stream: int) -> Decision | None:
        """What becomes of a call that there is no room to decide on; None where it may wait, held.

        Where too much is held it goes on unread, or is refused if it must not.
        """
        if not self._state.holds_too_much():
            return None
        strict = self._state.opened[stream].strict
        return Refuse(GRPC_RESOURCE_EXHAUSTED, TOO_MUCH) if strict else AS_IT_CAME

    def inflated(self, stream: int) -> bool:
        """Whether an opened call's message has come compressed."""
        return self._state.opened[stream].inflated_bytes > 0

    def held_message(self, stream: int) -> bytes:
        """The message of a call that is held and has not come compressed."""
        return bytes(memoryview(self._state.opened[stream].gathered)[PREFIX_BYTES:])

    def settle(self, stream: int, decision: Decision) -> bool:
        """Do with a held call what has been decided. False when it is not held any more."""
        if isinstance(decision, Refuse):
            return self.refuse(stream, decision.code, decision.text)
        if isinstance(decision, Answer):
            return self.answer(stream, decision.message)
        return self.forward(stream, decision.message)

    def forward(self, stream: int, message: bytes | None) -> bool:
        """Send a held request on: `message` in its place, or as it came (None).

        False when the call is not held any more.
        """
        opened = self._state.opened.get(stream)
        if opened is None or opened.phase is not Phase.DECIDING:
            return False
        payload = bytes(opened.gathered) if message is None else write_message(message)
        opened.awaited = True
        self._state.send(opened, payload)
        self._state.account()
        return True

    def refuse(self, stream: int, code: int, text: str) -> bool:
        """Answer a held call with a gRPC status. False when it is not held any more.

        Nor is it when upstream's own answer has begun to end it: CallCancelled follows.
        """
        opened = self._state.opened.get(stream)
        if opened is None or not opened.holding:
            return False
        refused = self._answers.refuse(opened, code, text)
        self._state.account()
        return refused

    def answer(self, stream: int, message: bytes) -> bool:
        """Answer a held call with a message and status OK. False as `refuse` says it.

        A client that has not made room for answers before is refused this one.
        """
        opened = self._state.opened.get(stream)
        if opened is None or not opened.holding:
            return False
        answered = self._answers.answer(opened, message)
        self._state.account()
        return answered

    def go_away(self, error: FrameError | None = None) -> None:
        """Ask the client to open no more streams here; those that are open go on (§6.8).

        With an error that `from_client` or `from_upstream` raised: tell the client why its
        connection is closed, if it is between two frames.
        """
        if error is None:
            self._to_client.inject(frames.goaway(frames.STREAM_MASK, frames.NO_ERROR))
        else:
            last = self._state.last_stream
            self._to_client.inject(frames.goaway(last, error.h2_code, str(error)))

    def regrant(self) -> None:
        """Try again to give credit that was withheld for want of memory."""
        self._state.memory_blocked = False
        self._state.grant(None)
        for opened in list(self._state.opened.values()):
            if opened.phase is Phase.GATHERING:
                self._state.grant(opened)

    def close(self, *, given_up: bool = False) -> None:
        """The connection is over: every call that is not becomes an event.

        `given_up`: it was the client who has ended them with it.
        """
        state = self._state
        if given_up and state.live:
            state.client.given_up(len(state.live))
        status = GRPC_CANCELLED if given_up else GRPC_UNAVAILABLE
        for opened in state.opened.values():
            state.report(opened, status)
        for stream in list(state.live):
            state.ended(stream, status)
        state.opened.clear()
        state.packed.clear()
        state.close_account()
        self._to_client.close()
        self._to_upstream.close()

    # -- what there is to see ----------------------------------------------------------

    @property
    def watched(self) -> bool:
        """Whether every call's beginning and end becomes an event, not only opened ones'."""
        return self._state.watched

    @watched.setter
    def watched(self, wanted: bool) -> None:
        self._state.watched = wanted

    @property
    def live(self) -> dict[int, bytes]:
        """Streams that have not ended, with their methods. Not to be changed."""
        return self._state.live

    @property
    def lost(self) -> bool:
        """Whether the connection cannot be read any more and is relayed as it comes."""
        return self._state.lost

    @property
    def gathering(self) -> list[int]:
        """Opened calls whose message is not whole yet, oldest first."""
        return [o.id for o in self._state.opened.values() if o.phase is Phase.GATHERING]

    @property
    def memory_blocked(self) -> bool:
        """Whether credit for held bytes was withheld for want of memory."""
        return self._state.memory_blocked

    @property
    def backpressured(self) -> bool:
        """Whether the client is to be left unread until upstream has ended its frame."""
        return self._to_client.backpressured

    @property
    def replies_wait(self) -> bool:
        """Whether answers, or what came behind them, wait for the client's windows."""
        return bool(self._state.replies.queue)


def _nobody(path: bytes) -> None:
    """Calls are not counted."""
