"""Calls that the shim does not know pass through, for as long as they last."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from tests.e2e.conftest import Shims
from tests.e2e.support.cri_client import channel, same
from tests.e2e.support.foreign import DETAILS, EVENT_GAP_S, EVENTS, ForeignRuntime
from tests.e2e.support.process import wait_for
from tests.e2e.support.shim import Shim

pytestmark = pytest.mark.e2e


@pytest.fixture
def foreign(shims: Shims) -> Iterator[ForeignRuntime]:
    runtime = ForeignRuntime(shims.directory / "foreign.sock")
    yield runtime
    runtime.close()


@pytest.fixture
def before_foreign(shims: Shims, hub_config: Any, foreign: ForeignRuntime) -> Shim:
    return shims.serve(hub_config, shims.directory / "foreign.sock")


@pytest.fixture
def connection(before_foreign: Shim) -> Iterator[grpc.Channel]:
    with channel(before_foreign.socket) as opened:
        yield opened


def test_container_events(connection: grpc.Channel) -> None:
    """A slow GetContainerEvents stream arrives message by message, not at its end."""
    events = connection.unary_stream("/runtime.v1.RuntimeService/GetContainerEvents", same, same)
    started = time.monotonic()
    arrived = [time.monotonic() - started for _ in events(b"", timeout=30)]
    assert len(arrived) == EVENTS
    assert arrived[0] < 5
    assert arrived[-1] > EVENT_GAP_S * (EVENTS - 2)


def test_metadata_trailers_and_status_details(connection: grpc.Channel) -> None:
    """Initial metadata, messages, trailers, code, text and binary details are the server's."""
    call = connection.unary_stream("/oracle.v9.Oracle/Watch", same, same)(
        b"abc", timeout=30, metadata=(("x-ask", "why"),)
    )
    assert [next(call) for _ in range(3)] == [b"", b"abc", b"abc" * 300_000]
    with pytest.raises(grpc.RpcError):
        next(call)
    assert ("x-asked", "why") in [(key, value) for key, value in call.initial_metadata()]
    trailers = dict(call.trailing_metadata())
    assert trailers["grpc-status-details-bin"] == DETAILS
    assert trailers["x-end"] == "yes"
    assert call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert call.details() == "it is full: 100 % — of “everything”"


def test_a_bidirectional_stream(connection: grpc.Channel) -> None:
    """What goes in on a stream of both directions comes back in order, large messages included."""
    sent = [bytes([number % 256]) * (number * 1000) for number in range(100)]
    echo = connection.stream_stream("/oracle.v9.Oracle/Echo", same, same)
    assert list(echo(iter(sent), timeout=30)) == sent


def test_a_cancelled_stream(connection: grpc.Channel, foreign: ForeignRuntime) -> None:
    """The client's cancellation reaches the server."""
    call = connection.unary_stream("/oracle.v9.Oracle/Forever", same, same)(b"")
    next(iter(call))
    call.cancel()
    wait_for("the stream's end at the server", lambda: foreign.ended_streams == 1, 15)


def test_an_unknown_method(connection: grpc.Channel) -> None:
    """UNIMPLEMENTED is the server's word, not the shim's."""
    call = connection.unary_unary("/oracle.v9.Oracle/Nothing", same, same).future(b"", timeout=10)
    assert call.exception() is not None
    assert call.code() is grpc.StatusCode.UNIMPLEMENTED
