"""What has to hold of a conversation: on its way, and when it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shimcore.relay.events import CallEnded

if TYPE_CHECKING:
    from shimcore.relay.sendqueue import SendQueue
    from tests.support.conversation.play import Conversation
    from tests.support.conversation.state import Call


def check_outcome(call: Call, event: CallEnded) -> None:
    if call.client_reset or call.reply_reset:
        assert event.status != 0 or call.reply_done
        return
    status = dict(call.headers_out[-1])[b"grpc-status"]
    assert event.status == int(status)
    assert event.empty == call.data_out.startswith(bytes(5))


def check_windows(talk: Conversation) -> None:
    core, state = talk.core, talk.core._state
    seen, left, held = core.requests.windows
    assert held >= 0
    assert talk.client.outbound_flow_control_window == seen
    assert talk.server.inbound_flow_control_window == left
    seen, left, held = core.replies.windows
    assert held >= 0
    assert talk.server.outbound_flow_control_window == seen
    assert talk.client.inbound_flow_control_window == left
    assert state.account_held.used == core.requests.held + state._inflated
    if not state.queue.ack_waits:
        for call in talk.calls.values():
            check_request_windows(talk, call)
    if not state.replies.queue.ack_waits:
        for call in talk.calls.values():
            check_reply_windows(talk, call)


def check_request_windows(talk: Conversation, call: Call) -> None:
    """What the client may still send on a stream, beside what upstream takes."""
    state, stream = talk.core._state, call.stream
    there, here = talk.client.streams.get(stream), talk.server.streams.get(stream)
    if there is None or here is None or call.client_done or there.closed or here.closed:
        return
    if stream in state.refused or call.reply_done:
        return
    opened = state.opened.get(stream)
    if opened is not None:
        assert there.outbound_flow_control_window == opened.ledger.seen
        assert here.inbound_flow_control_window == opened.ledger.room
    else:
        waiting = waiting_bytes(state.queue, stream)
        assert there.outbound_flow_control_window == here.inbound_flow_control_window - waiting


def check_reply_windows(talk: Conversation, call: Call) -> None:
    """What upstream may still send on a stream, beside what the client takes."""
    state, stream = talk.core._state, call.stream
    there, here = talk.client.streams.get(stream), talk.server.streams.get(stream)
    if there is None or there.closed or call.response_ended or call.client_reset:
        return
    if state.queue.waits(stream):  # perhaps with a WINDOW_UPDATE
        return
    opened = state.opened.get(stream)
    waiting = waiting_bytes(state.replies.queue, stream)
    if opened is not None and opened.answering:
        assert opened.reply.held == waiting
        assert opened.reply.room == there.inbound_flow_control_window
    elif here is not None and not here.closed and not call.reply_done:
        assert here.outbound_flow_control_window == there.inbound_flow_control_window - waiting
        if opened is not None:
            assert opened.reply.room == here.outbound_flow_control_window


def waiting_bytes(queue: SendQueue, stream: int) -> int:
    """DATA of one stream that waits for its reader."""
    return sum(
        len(item.payload) for item in queue._queues.get(stream, ()) if hasattr(item, "payload")
    )


def check(talk: Conversation) -> None:
    core, state = talk.core, talk.core._state
    assert not talk.deciding
    assert not talk.awaiting
    assert core.requests.held == 0
    assert not state.queue
    assert not state.replies.queue
    assert not state._metadata_bytes
    assert not core._answers._waiting
    assert not core.live
    assert not state.opened
    assert not core.memory_blocked
    check_windows(talk)
    assert talk.client.outbound_flow_control_window - core.requests.debt == (
        talk.server.inbound_flow_control_window
    )
    if not talk.server._inbound_flow_control_window_manager._bytes_processed:
        assert core.requests.debt == 0
        assert talk.client.outbound_flow_control_window == 65_535
    assert talk.server.outbound_flow_control_window - core.replies.debt == (
        talk.client.inbound_flow_control_window
    )
    if not talk.client._inbound_flow_control_window_manager._bytes_processed:
        assert core.replies.debt == 0
        assert talk.server.outbound_flow_control_window == 65_535
    assert talk.pings == talk.pongs
    for call in talk.calls.values():
        check_call(call)


def check_call(call: Call) -> None:
    expected = call.body if call.expected is None else call.expected
    if call.decision in {"refuse", "answer"}:
        check_ended_here(call)
        return
    answered_early = call.reply_done and call.answers_early
    if call.client_reset or answered_early or call.reply_reset:
        assert expected.startswith(call.received)
    else:
        assert call.received == expected
        assert call.request_ended
    if call.client_reset:
        assert call.data_out.startswith(call.data_in)
    elif call.reply_reset:
        assert call.response_reset
        assert call.data_out.startswith(call.data_in)
    else:
        assert call.response_ended
        assert call.headers_in == call.headers_out
        assert call.data_in == call.data_out
    if call.untold:
        assert call.body[:1] == b"\1"
        assert not call.decision, "told of a call that had gone on before its message was read"
    elif call.opened and call.unary and call.request_ended and not answered_early:
        assert call.decision in {"forward", "cancelled"}


def check_ended_here(call: Call) -> None:
    """A call that the shim has refused, or answered."""
    assert not call.received, "upstream got bytes of a call that was not for it"
    assert not call.request_ended
    assert call.request_reset or call.reply_reset
    if call.client_reset and not call.response_ended:
        assert call.decision == "refuse" or call.answer.startswith(call.data_in)
        return
    assert call.response_ended
    if call.decision == "answer":
        first, last = call.headers_in
        assert dict(first)[b":status"] == b"200"
        assert last == [(b"grpc-status", b"0")]
        assert call.data_in == call.answer
    else:
        check_refusal(call)


def check_refusal(call: Call) -> None:
    assert call.refusal is not None
    last = dict(call.headers_in[-1])
    assert (int(last[b"grpc-status"]), last[b"grpc-message"]) == call.refusal
    assert (b":status" in last) == (len(call.headers_in) == 1)
    assert call.data_out.startswith(call.data_in)
