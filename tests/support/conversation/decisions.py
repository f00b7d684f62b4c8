"""What the core tells of its calls, and what is decided on them."""

from __future__ import annotations

from shimcore.heldcall import Forward
from shimcore.relay.events import CallCancelled, CallEnded, CallReady, Notice
from shimcore.relay.messages import write_message
from tests.support.conversation.checks import check_outcome
from tests.support.conversation.state import OPENED, Call, Talk


class Decisions(Talk):
    """The image side: it decides at once, later, or not at all."""

    def relay_out(self) -> None:
        for chunk in self.core.take_to_client():
            self.pipes["r>c"] += chunk
        for chunk in self.core.take_to_upstream():
            self.pipes["r>u"] += chunk
        for event in self.core.take_events():
            self.on_core(event)

    def on_core(self, event: object) -> None:
        if isinstance(event, CallReady):
            assert event.stream not in self.ready, "two CallReady for one call"
            self.ready.add(event.stream)
            self.deciding[event.stream] = event
            call = self.calls[event.stream]
            assert call.opened
            assert event.message == call.message
            assert event.path == OPENED
            assert event.timeout_s == 5.0
        elif isinstance(event, CallCancelled):
            assert event.stream in self.deciding, "cancelled, but nothing to decide"
            del self.deciding[event.stream]
            self.calls[event.stream].decision = "cancelled"
        elif isinstance(event, CallEnded):
            assert event.stream in self.awaiting, "ended, but not awaited"
            self.awaiting.remove(event.stream)
            check_outcome(self.calls[event.stream], event)
        else:
            assert isinstance(event, Notice)
            self.notices.append(event.text)

    def decide_now(self, event: CallReady) -> Forward | None:
        """Some calls go on at once, most of those as they came."""
        self.on_core(event)
        if self.known.random() >= self.knows:
            return None
        del self.deciding[event.stream]
        call = self.calls[event.stream]
        call.decision = "forward"
        self.awaiting.add(event.stream)
        if self.known.random() < 0.7:
            return Forward(None)
        message = self.rewritten(event.message)
        call.expected = write_message(message) + call.body[call.first_bytes :]
        return Forward(message)

    def decide(self) -> bool:
        if not self.deciding:
            return False
        stream = self.random.choice(list(self.deciding))
        event = self.deciding[stream]
        call = self.calls[stream]
        kind = self.random.random()
        if kind < 0.3:
            if self.refuse(call):
                del self.deciding[stream]
        elif kind < 0.6:
            if self.answer(call):
                del self.deciding[stream]
        else:
            del self.deciding[stream]
            message = None if kind < 0.7 else self.rewritten(event.message)
            assert self.core.forward(stream, message)
            assert not self.core.forward(stream, message), "forwarded twice"
            assert not self.core.refuse(stream, 1, "")
            assert not self.core.answer(stream, b"")
            call.decision = "forward"
            self.awaiting.add(stream)
            if message is not None:
                call.expected = write_message(message) + call.body[call.first_bytes :]
        self.relay_out()
        return True

    def rewritten(self, message: bytes) -> bytes:
        size = len(message) if self.large else min(len(message), 1500)
        length = self.random.choice([0, 1, size // 2, size + 1, size + 50])
        if self.random.random() < 0.1:
            length = size + self.random.randint(1000, 70_000 if self.large else 3000)
        return self.random.randbytes(length)

    def refuse(self, call: Call) -> bool:
        code = self.random.randint(1, 16)
        text = self.random.choice(["no", "100 % nö", "x" * 200])
        if not self.core.refuse(call.stream, code, text):
            assert self.core._upstream_to_client.passing_block(call.stream), "refusal refused"
            return False
        call.decision = "refuse"
        wire = {"100 % nö": b"100 %25 n%C3%B6"}.get(text, text.encode())
        call.refusal = (code, wire)
        self.client.forgotten.add(call.stream)
        return True

    def answer(self, call: Call) -> bool:
        content = self.random.randbytes(self.random.choice([0, 1, 80, 80, 700, 3000]))
        if self.large and self.random.random() < 0.2:
            content = self.random.randbytes(self.random.randint(10_000, 150_000))
        begun = self.core._state.opened[call.stream].answer
        if not self.core.answer(call.stream, content):
            assert self.core._upstream_to_client.passing_block(call.stream), "answer refused"
            return False
        call.decision = "answer"
        call.answer = write_message(content)
        if begun:
            call.decision = "refuse"
            call.refusal = (13, b"image-cri-shim: the runtime answered a call that it had not got")
        self.client.forgotten.add(call.stream)
        return True

    def refuse_unfinished(self) -> bool:
        """What the shell does with the oldest unfinished request when memory is short."""
        gathering = self.core.gathering
        if not gathering:
            return False
        refused = self.refuse(self.calls[gathering[0]])
        self.relay_out()
        return refused
