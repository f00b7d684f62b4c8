"""The sockets of a proxy connection."""

from __future__ import annotations

import asyncio
import socket

import pytest

from shimcore.relay.peer_socket import JOINED_BYTES, PeerSocket


async def test_nothing_is_written_to_a_peer_that_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    """asyncio logs a line for each write but the first few."""
    near, far = socket.socketpair(socket.AF_UNIX)
    lost = asyncio.Event()
    peer = PeerSocket(lambda _: None, lambda: None, lost.set, lambda: None)
    await asyncio.get_running_loop().connect_accepted_socket(lambda: peer, near)
    far.close()
    peer.write([bytes(JOINED_BYTES)] * 20)
    await asyncio.wait_for(lost.wait(), 5)
    assert not caplog.records
