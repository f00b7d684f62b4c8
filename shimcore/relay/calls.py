"""The opened calls of one connection: what is known of them, and who decides on them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from shimcore.heldcall import Decision, Forward, HeldCall
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
from shimcore.relay.limits import SETTLED_CALL_BYTES
from shimcore.relay.room import Requests
from shimcore.relay.work import Worker, undecided

if TYPE_CHECKING:
    from shimcore.relay.server import Observer, Relay

log = logging.getLogger("shimcore.relay")


class Calls:
    """Decides on the calls of a connection core (`core`), and acts on its events.

    `pump` sends what a decision has caused that came later; `broken` gets what kept one from being
    made or applied.
    """

    def __init__(
        self,
        relay: Relay,
        client: Client,
        pump: Callable[[], None],
        broken: Callable[[BaseException], None],
    ) -> None:
        self._relay = relay
        self._pump = pump
        self._broken = broken
        self.core = Connection(
            relay.route, relay.budget, relay.strict, relay.count, client, self._decide
        )
        self.core.watched = relay.observer is not None
        # Pulls have slots and bytes of their own: nobody else waits for one.
        self._pulls = Worker(relay.pull_slots, self._decided, broken)
        self._others = Worker(relay.slots, self._decided, broken)
        self._pull_requests = Requests(relay.pull_room)
        self._other_requests = Requests(relay.request_room)
        # Each with what counts of its request, and where that is counted.
        self._calls: dict[int, tuple[HeldCall, int, Requests]] = {}
        self._told = False  # that calls wait for room
        self._begun: dict[int, float] = {}

    @property
    def busy(self) -> bool:
        """Whether a decision is in work, or waits for a slot or for room."""
        waits = self._pull_requests.busy or self._other_requests.busy
        return waits or self._pulls.busy or self._others.busy

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
            self._pull_requests.forget(event.stream)
            self._other_requests.forget(event.stream)
            self._pulls.cancel(event.stream)
            self._others.cancel(event.stream)
        elif isinstance(event, Notice):
            log.warning("%s", event.text)
        elif isinstance(event, StreamBegan | StreamEnded) and self._relay.observer is not None:
            self._observe(event, self._relay.observer)

    def _decide(self, ready: CallReady) -> Decision | None:
        """What is known at once of a call, if there is room for what is known of it."""
        size = len(ready.message)
        for name, value in ready.metadata:
            size += len(name) + len(value)
        requests = self._pull_requests if ready.long else self._other_requests
        if requests.take(size):
            return self._open(ready, size, requests)
        decision = self.core.without_room(ready.stream)
        if decision is None:
            self._wait(ready, requests)
        if decision is not None or not self._told:
            self._told = True
            become = "goes on unread" if isinstance(decision, Forward) else "is refused"
            log.warning(
                "%s: a request of %d bytes %s: others, which are decided on, have all the room",
                ready.path.decode(errors="replace"),
                size,
                "waits" if decision is None else become,
            )
        return decision

    def _wait(self, ready: CallReady, requests: Requests) -> None:
        """Have a call decided on later. Until then the core holds its request, and once only."""
        size = len(ready.message)
        inflated = self.core.inflated(ready.stream)
        kept = ready._replace(message=ready.message if inflated else b"", metadata=())
        since = time.monotonic()
        requests.wait(ready.stream, size, partial(self._open_late, kept, size, requests, since))

    def _open_late(self, ready: CallReady, size: int, requests: Requests, since: float) -> None:
        """Open a call that has waited for room since then, and has it."""
        message = ready.message or self.core.held_message(ready.stream)
        left_s = ready.timeout_s
        if left_s is not None:
            left_s = max(left_s - (time.monotonic() - since), 0.0)
        ready = ready._replace(message=message, timeout_s=left_s)
        try:
            decision = self._open(ready, size, requests)
            if decision is not None:
                self.core.settle(ready.stream, decision)
                self._pump()
        except Exception as error:  # noqa: BLE001 - it is told
            self._broken(error)

    def _open(self, ready: CallReady, size: int, requests: Requests) -> Decision | None:
        try:
            call, decision = self._relay.open_call(
                ready.path, ready.message, ready.timeout_s, ready.metadata
            )
        except Exception as error:  # noqa: BLE001 - it is told
            requests.give(size)
            return undecided(error)
        self._calls[ready.stream] = call, size, requests
        if decision is None:
            (self._pulls if ready.long else self._others).start(ready.stream, call)
        elif size > SETTLED_CALL_BYTES or not isinstance(decision, Forward):
            self._is_decided(ready.stream, decision)
        return decision

    def _is_decided(self, stream: int, decision: Decision) -> None:
        """A call that goes on keeps little of its request; any other is over."""
        if not isinstance(decision, Forward):
            self._forget(stream)
        elif (known := self._calls.get(stream)) is not None and known[1] > SETTLED_CALL_BYTES:
            call, size, requests = known
            self._calls[stream] = call, SETTLED_CALL_BYTES, requests
            requests.give(size - SETTLED_CALL_BYTES)

    def _forget(self, stream: int) -> HeldCall | None:
        """The call that is over; its message does not count any more."""
        known = self._calls.pop(stream, None)
        if known is None:
            return None
        call, size, requests = known
        requests.give(size)
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
        self._is_decided(stream, decision)
        self.core.settle(stream, decision)
        self._pump()

    def cancel(self) -> None:
        """The client is gone: nobody wants a decision any more."""
        self._pull_requests.forget_all()
        self._other_requests.forget_all()
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
        self._pump = self._broken = _nothing


def _nothing(*_: object) -> None:
    pass
