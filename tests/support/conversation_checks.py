"""What has to hold of a conversation: on its way, and when it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shimcore.relay.events import CallEnded

if TYPE_CHECKING:
    from tests.support.conversation import Call, Conversation


def check_outcome(call: Call, event: CallEnded) -> None:
    if call.client_reset or call.reply_reset:
        assert event.status != 0 or call.reply_done
        return
    status = dict(call.headers_out[-1])[b"grpc-status"]
    assert event.status == int(status)
    assert event.empty == call.data_out.startswith(bytes(5))


def check_windows(talk: Conversation) -> None:
    core, state = talk.core, talk.core._state
    seen, left, held = core.windows
    assert held >= 0
    assert talk.client.outbound_flow_control_window == seen
    assert talk.server.inbound_flow_control_window == left
    assert talk.server.outbound_flow_control_window == talk.client.inbound_flow_control_window
    assert state.accounted == held
    if state.queue.ack_waits:
        return
    for opened in state.opened.values():
        there = talk.client.streams.get(opened.id)
        here = talk.server.streams.get(opened.id)
        if there is None or here is None or opened.ended or there.closed or here.closed:
            continue
        if opened.id in state.refused or talk.calls[opened.id].reply_done:
            continue
        assert there.outbound_flow_control_window == opened.ledger.client
        assert here.inbound_flow_control_window == opened.ledger.upstream


def check(talk: Conversation) -> None:
    core, state = talk.core, talk.core._state
    assert not talk.deciding
    assert not talk.awaiting
    assert core.held_bytes == 0
    assert not state.queue
    assert not core.live
    assert not state.opened
    assert not core.starved
    check_windows(talk)
    assert talk.client.outbound_flow_control_window - core.debt == (
        talk.server.inbound_flow_control_window
    )
    if not talk.server._inbound_flow_control_window_manager._bytes_processed:
        assert core.debt == 0
        assert talk.client.outbound_flow_control_window == 65_535
    assert talk.pings == talk.pongs
    for call in talk.calls.values():
        check_call(call)


def check_call(call: Call) -> None:
    expected = call.body if call.expected is None else call.expected
    if call.decision == "refuse":
        check_refused(call)
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
    if call.opened and call.unary and call.request_ended and not answered_early:
        assert call.decision in {"forward", "cancelled"}


def check_refused(call: Call) -> None:
    assert not call.received, "upstream got bytes of a refused call"
    assert not call.request_ended
    assert call.request_reset or call.reply_reset
    assert call.refusal is not None
    if call.client_reset and not call.response_ended:
        return
    assert call.response_ended
    last = dict(call.headers_in[-1])
    assert (int(last[b"grpc-status"]), last[b"grpc-message"]) == call.refusal
    assert (b":status" in last) == (len(call.headers_in) == 1)
    assert call.data_out.startswith(call.data_in)
