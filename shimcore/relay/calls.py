"""The opened calls of one connection: what is known of them, and who decides on them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from shimcore.heldcall import Decision, Forward, HeldCall, Refuse
from shimcore.relay.budget import Account
from shimcore.relay.clients import Client
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
    """Decides on the calls of a connection core (`core`), and acts on its events.

    `pump` sends what a decision has caused that came later.
    """

    def __init__(self, relay: Relay, client: Client, pump: Callable[[], None]) -> None:
        self._relay = relay
        self._pump = pump
        self.core = Connection(
            relay.route, relay.budget, relay.strict, relay.count, client, self._decide
        )
        self.core.watched = relay.observer is not None
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
        for event in self.core.take_events():
            self._on_event(event)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, CallEnded):
            ended = self._forget(event.stream)
            if ended is not None:
                ended.finished(event.status, event.empty, event.message)
        elif isinstance(event, CallCancelled):
            self._forget(event.stream)
            self._pulls.cancel(event.stream)
            self._others.cancel(event.stream)
        elif isinstance(event, Notice):
            log.warning("%s", event.text)
        elif isinstance(event, StreamBegan | StreamEnded) and self._relay.observer is not None:
            self._observe(event, self._relay.observer)

    def _decide(self, ready: CallReady) -> Decision | None:
        """What is known at once of a call, if there is memory for what is known of it."""
        size = len(ready.message)
        for name, value in ready.metadata:
            size += len(name) + len(value)
        account = self._pull_bytes if ready.long else self._other_bytes
        if not account.take(size):
            log.warning("an image call is refused: too many bytes of others wait for their answers")
            return Refuse(GRPC_RESOURCE_EXHAUSTED, TOO_MUCH)
        call, decision = self._relay.open_call(
            ready.path, ready.message, ready.timeout_s, ready.metadata
        )
        self._calls[ready.stream] = call, size, account
        if decision is None:
            (self._pulls if ready.long else self._others).start(ready.stream, call)
        elif not isinstance(decision, Forward):
            self._forget(ready.stream)
        return decision

    def _forget(self, stream: int) -> HeldCall | None:
        """The call that is over; its message does not count any more."""
        known = self._calls.pop(stream, None)
        if known is None:
            return None
        call, size, account = known
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

    def _decided(self, stream: int, decision: Decision) -> None:
        """A decision that was in work has come."""
        if not isinstance(decision, Forward):
            self._forget(stream)
        self.core.settle(stream, decision)
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
