"""The opened calls of one connection: what is known of them, and who decides on them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from shimcore.heldcall import Answer, Decision, HeldCall, Refuse
from shimcore.relay.budget import Account
from shimcore.relay.connection import Connection
from shimcore.relay.events import (
    CallCancelled,
    CallEnded,
    CallReady,
    Event,
    Notice,
    StreamBegan,
    StreamEnded,
)
from shimcore.relay.messages import GRPC_RESOURCE_EXHAUSTED
from shimcore.relay.work import Worker

if TYPE_CHECKING:
    from shimcore.relay.server import Observer, Relay

log = logging.getLogger("shimcore.relay")

TOO_MUCH = "image-cri-shim: too many bytes of image requests are held"


class Calls:
    """Acts on the events of a connection core. `pump` sends what a decision has caused."""

    def __init__(self, relay: Relay, core: Connection, pump: Callable[[], None]) -> None:
        self._relay = relay
        self._core = core
        self._pump = pump
        # Pulls have slots and bytes of their own: nobody else waits for one.
        self._pulls = Worker(relay.pull_slots, self._decided)
        self._others = Worker(relay.slots, self._decided)
        self._pull_bytes = Account(relay.pull_bytes)
        self._other_bytes = Account(relay.request_bytes)
        # Each with the size of its request, and where that is counted.
        self._calls: dict[int, tuple[HeldCall, int, Account]] = {}
        self._begun: dict[int, float] = {}

    @property
    def busy(self) -> bool:
        """Whether a decision is in work or waits for a slot."""
        return self._pulls.busy or self._others.busy

    def act(self) -> None:
        """Act on what has happened."""
        core = self._core
        while events := core.take_events():
            for event in events:
                self._on_event(event)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, CallReady):
            self._ready(event)
        elif isinstance(event, CallEnded):
            ended = self._forget(event.stream)
            if ended is not None:
                ended.finished(event.status, event.empty, event.message)
        elif isinstance(event, CallCancelled):
            self._forget(event.stream)
            self._pulls.cancel(event.stream)
            self._others.cancel(event.stream)
        elif isinstance(event, Notice):
            log.warning("%s", event.text)
        elif self._relay.observer is not None:
            self._observe(event, self._relay.observer)

    def _ready(self, event: CallReady) -> None:
        """Have a call decided, if there is memory for what is known of it."""
        size = len(event.message)
        size += sum(len(name) + len(value) for name, value in event.metadata)
        account = self._pull_bytes if event.long else self._other_bytes
        if not account.take(size):
            log.warning("an image call is refused: too many bytes of others wait for their answers")
            self._core.refuse(event.stream, GRPC_RESOURCE_EXHAUSTED, TOO_MUCH)
            return
        call = self._relay.open_call(event.path, event.message, event.timeout_s, event.metadata)
        self._calls[event.stream] = call, size, account
        decision = call.decide_now()
        if decision is None:
            (self._pulls if event.long else self._others).start(event.stream, call)
        else:
            self._settle(event.stream, decision)

    def _forget(self, stream: int) -> HeldCall | None:
        """The call that is over; its message does not count any more."""
        if stream not in self._calls:
            return None
        call, size, account = self._calls.pop(stream)
        account.change(-size)
        return call

    def _observe(self, event: StreamBegan | StreamEnded, observer: Observer) -> None:
        now = time.monotonic()
        if isinstance(event, StreamBegan):
            self._begun[event.stream] = now
            observer.began(event.path)
        else:
            seconds = now - self._begun.pop(event.stream, now)
            observer.ended(event.path, event.status, seconds)

    def _settle(self, stream: int, decision: Decision) -> None:
        if isinstance(decision, Refuse):
            self._forget(stream)
            self._core.refuse(stream, decision.code, decision.text)
        elif isinstance(decision, Answer):
            self._forget(stream)
            self._core.answer(stream, decision.message)
        else:
            self._core.forward(stream, decision.message)

    def _decided(self, stream: int, decision: Decision) -> None:
        """A decision that was in work has come."""
        self._settle(stream, decision)
        self._pump()

    def cancel(self) -> None:
        """The client is gone: nobody wants a decision any more."""
        self._pulls.cancel_all()
        self._others.cancel_all()

    def end(self) -> None:
        """The connection is over."""
        self.cancel()
        self.act()
        for stream in list(self._calls):
            self._forget(stream)

    def let_go(self) -> None:
        """Hold nothing of the connection any more, which holds this."""
        self._pulls.let_go()
        self._others.let_go()
        self._pump = _nothing


def _nothing() -> None:
    pass
