"""The end of `serve`: what it lets finish, and what those hear who are connected."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from shimcore.pb import cri_pb2
from tests.support.calling import IMAGES, RUNTIME, open_channel, unary
from tests.support.cri import pull_request
from tests.support.scripted_runtime import ScriptedRuntime
from tests.support.serving import serving


async def test_sigterm_ends_with_status_0_and_leaves_no_socket(
    runtime: ScriptedRuntime, tmp_path: Path
) -> None:
    """After SIGTERM the exit status is 0 and both sockets are gone."""
    async with serving(tmp_path, runtime.socket_path) as shim:
        assert await asyncio.to_thread(shim.stop) == 0
        assert not os.path.exists(shim.socket)
        assert not os.path.exists(f"{shim.socket}.admin")


async def test_a_running_pull_ends_before_the_shim_does(
    runtime: ScriptedRuntime, tmp_path: Path
) -> None:
    """SIGTERM during a pull: the pull is answered, and then the shim exits with 0."""
    begun = asyncio.Event()

    async def slow(*_: object) -> Any:
        begun.set()
        await asyncio.sleep(1.5)
        return cri_pb2.PullImageResponse(image_ref="sha256:slow").SerializeToString()

    runtime.overrides["ImageService/PullImage"] = slow
    async with serving(tmp_path, runtime.socket_path) as shim:
        async with open_channel(shim.socket) as channel:
            pull = asyncio.ensure_future(unary(channel, f"{IMAGES}PullImage", pull_request("a/b")))
            await asyncio.wait_for(begun.wait(), 10)
            shim.signal(signal.SIGTERM)
            answer = cri_pb2.PullImageResponse.FromString(await pull)
            assert answer.image_ref == "sha256:slow"
        assert await asyncio.to_thread(shim.wait) == 0


async def test_a_client_that_has_just_connected_is_told_of_the_end(
    runtime: ScriptedRuntime, tmp_path: Path
) -> None:
    """Whoever was accepted hears the server's SETTINGS and a GOAWAY before the connection ends."""
    async with serving(tmp_path, runtime.socket_path) as shim:
        clients = [socket.socket(socket.AF_UNIX) for _ in range(20)]
        for client in clients:
            client.connect(shim.socket)
        shim.signal(signal.SIGTERM)
        for client in clients:
            with contextlib.suppress(BrokenPipeError):  # it may have ended: it has told them
                client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
        for client in clients:
            assert {4, 7} <= set(await asyncio.to_thread(_frame_types, client))
        assert await asyncio.to_thread(shim.wait) == 0


def _frame_types(client: socket.socket) -> list[int]:
    """Of all frames until the end of the connection, which is closed."""
    with client:
        client.settimeout(10)
        told = b"".join(iter(lambda: client.recv(65_536), b""))
    types = []
    while told:
        types.append(told[3])
        told = told[9 + int.from_bytes(told[:3], "big") :]
    return types


async def test_new_connections_are_refused_while_draining(
    runtime: ScriptedRuntime, tmp_path: Path
) -> None:
    """While a running call keeps the shim from exiting, nobody new gets in."""
    begun = asyncio.Event()

    async def slow(*_: object) -> Any:
        begun.set()
        await asyncio.sleep(1.5)
        return b""

    runtime.overrides["RuntimeService/Version"] = slow
    async with (
        serving(tmp_path, runtime.socket_path, force=True) as shim,
        open_channel(shim.socket) as channel,
    ):
        call = asyncio.ensure_future(unary(channel, f"{RUNTIME}Version", b""))
        await asyncio.wait_for(begun.wait(), 10)
        shim.signal(signal.SIGTERM)
        await asyncio.to_thread(shim.wait_log, "draining")
        await asyncio.sleep(0.1)
        with (
            socket.socket(socket.AF_UNIX) as late,
            pytest.raises(OSError, match=r"refused|No such file"),
        ):
            late.connect(shim.socket)
        await call


async def test_kill_dash_nine_of_the_shim_under_a_client(
    runtime: ScriptedRuntime, tmp_path: Path
) -> None:
    """The client's next call works on the shim that comes after."""
    async with serving(tmp_path, runtime.socket_path) as shim, open_channel(shim.socket) as channel:
        assert await unary(channel, "/x.Unknown/Echo", b"1") == b"1"
        shim.kill()
        with pytest.raises(grpc.aio.AioRpcError) as gone:
            await unary(channel, "/x.Unknown/Echo", b"2", 1)
        assert gone.value.code() in {
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.DEADLINE_EXCEEDED,
        }
        await asyncio.to_thread(shim.start)
        call: Any = channel.unary_unary("/x.Unknown/Echo")
        assert await call(b"3", timeout=10, wait_for_ready=True) == b"3"
