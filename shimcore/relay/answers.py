"""What the shim itself says to held calls: refusals, and messages that the runtime gave it.

The DATA of an answer is a debt of the replies' direction: upstream has never sent it. It
waits for the client's windows like any other frame of that direction's queue.
"""

from __future__ import annotations

from functools import partial

from shimcore.relay import frames
from shimcore.relay.limits import ANSWER_BYTES, ANSWERS_WAITING
from shimcore.relay.messages import (
    GRPC_INTERNAL,
    GRPC_OK,
    GRPC_RESOURCE_EXHAUSTED,
    write_message,
)
from shimcore.relay.opened import OpenedStream
from shimcore.relay.streams import ConnectionState
from shimcore.relay.upstream_to_client import UpstreamToClient

_TOO_MUCH = "image-cri-shim: the client does not take its answers"
_ANSWERED = "image-cri-shim: the runtime answered a call that it had not got"


class Answers:
    """The answers of one connection."""

    def __init__(self, state: ConnectionState, side: UpstreamToClient) -> None:
        self._state = state
        self._side = side
        self._waiting = 0

    def refuse(self, opened: OpenedStream, code: int, text: str) -> bool:
        """End a held call with a gRPC status. False when upstream is about to end it."""
        answered = self._answered(opened)
        if answered is None:
            return False
        prefix = self._side.owed_size_update()
        block = frames.refusal(opened.id, code, text, answered=answered, prefix=prefix)
        self._state.replies.queue.add_block(opened.id, block)
        self._state.ended(opened.id, code)
        self._state.end_here(opened)
        return True

    def answer(self, opened: OpenedStream, message: bytes) -> bool:
        """End a held call with a message and status OK. False as for a refusal."""
        state, stream, payload = self._state, opened.id, write_message(message)
        replies, size = state.replies, len(payload)
        answered = self._answered(opened)
        if answered is None:
            return False
        if opened.answer:
            return self.refuse(opened, GRPC_INTERNAL, _ANSWERED)
        if replies.ledger.debt + size > ANSWER_BYTES or self._waiting >= ANSWERS_WAITING:
            return self.refuse(opened, GRPC_RESOURCE_EXHAUSTED, _TOO_MUCH)
        if not answered:
            block = frames.response(stream, self._side.owed_size_update())
            replies.queue.add_block(stream, block)
        replies.ledger.replace(0, size)
        opened.reply.replace(0, size)
        opened.answering = True
        self._waiting += 1
        state.end_here(opened)
        replies.queue.add_data(stream, payload, end_stream=False, ledger=opened.reply)
        replies.queue.add_last(stream, partial(self._trailers, stream), partial(self._sent, opened))
        return True

    def _answered(self, opened: OpenedStream) -> bool | None:
        """Whether upstream's own HEADERS have begun to go out; None when they end the call."""
        passing = self._side.passing_block(opened.id)
        if passing is not None and passing & frames.END_STREAM:
            return None
        return opened.answered or passing is not None

    def _trailers(self, stream: int) -> bytes:
        return frames.trailers(stream, self._side.owed_size_update())

    def _sent(self, opened: OpenedStream) -> None:
        self._over(opened)
        self._state.ended(opened.id, GRPC_OK)
        self._state.forget_swallowed(opened)

    def _over(self, opened: OpenedStream) -> None:
        if opened.answering:
            opened.answering = False
            self._waiting -= 1

    def drop(self, opened: OpenedStream) -> None:
        """The client has reset a call whose answer waits: undo the debt of what is left of it."""
        self._state.replies.drop_queued(opened.id)
        self._over(opened)
