"""The runtime goes away and comes back under the client."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from shimcore.errors import RuntimeUnavailableError
from shimcore.runtime.client import RuntimeClient
from shimcore.runtime.errors import SeveralRuntimesError
from shimcore.runtime.readiness import wait_for_socket, wait_until_ready
from tests.support.scripted_runtime import ScriptedRuntime

T_S = 15.0


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "r.sock")


@asynccontextmanager
async def process(path: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A stand-in runtime as a process of its own, listening; killed at the end."""
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.support.scripted_runtime", "--socket", path, "--make-up"),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert running.stdout is not None
        line = await asyncio.wait_for(running.stdout.readline(), 20)
        assert line.decode().strip() == f"listening on {path}"
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.communicate()


async def lost(client: RuntimeClient) -> None:
    """Until grpc knows that a connection has ended: long before a true runtime is back."""
    async with asyncio.timeout(T_S):
        while client._channel._line.connected:
            await asyncio.sleep(0.001)


async def test_the_next_call_after_a_restart_works_at_once(path: str) -> None:
    """However long the runtime was away, and however often it was asked meanwhile."""
    async with RuntimeClient(path) as client:
        for _ in range(2):
            async with ScriptedRuntime(path):
                started = time.monotonic()
                await client.version(T_S)
                assert time.monotonic() - started < 1
            until = time.monotonic() + 0.7  # long enough for grpc's backoff to grow
            while time.monotonic() < until:
                with pytest.raises(RuntimeUnavailableError):
                    await client.version(T_S)
                await asyncio.sleep(0.05)


async def test_a_restart_that_nobody_saw_is_no_error(path: str) -> None:
    """Without a call in between, the first one after the restart works."""
    async with RuntimeClient(path) as client:
        for _ in range(3):
            async with ScriptedRuntime(path):
                await client.version(T_S)
            await lost(client)


async def test_a_killed_runtime_ends_its_calls_as_unavailable(path: str) -> None:
    """kill -9 with a call under way, then a restart on the socket left behind."""
    async with RuntimeClient(path) as client:
        async with process(path) as running:
            await client.version(20)
            calls = [
                asyncio.create_task(client.image_status(f"image-{n}", timeout_s=20))
                for n in range(20)
            ]
            await asyncio.sleep(0)
            running.send_signal(signal.SIGSTOP)
            await asyncio.sleep(0.1)
            late = asyncio.create_task(client.image_status("late", timeout_s=20))
            await asyncio.sleep(0.1)
            running.kill()
            with pytest.raises(RuntimeUnavailableError, match=r"r\.sock"):
                await late
            await asyncio.gather(*calls, return_exceptions=True)
        async with ScriptedRuntime(path):
            started = time.monotonic()
            await client.version(T_S)
            assert time.monotonic() - started < 3


async def test_what_was_learned_is_forgotten_with_the_connection(path: str) -> None:
    """Another runtime behind the same socket is asked anew for version and image store."""
    async with RuntimeClient(path) as client:
        async with ScriptedRuntime(path, versions=["runtime.v1alpha2"], image_store=False):
            assert (await client.version(T_S)).api_version == "v1alpha2"
            assert await client.store.supported() is False
        await lost(client)
        async with ScriptedRuntime(path) as runtime:
            assert (await client.version(T_S)).api_version == "v1"
            assert await client.store.supported() is True
            assert len(runtime.calls) == 2
        async with asyncio.timeout(T_S):  # the end of a connection is noticed, not foreseen
            with pytest.raises(RuntimeUnavailableError):
                await _ask_again_and_again(client)


async def _ask_again_and_again(client: RuntimeClient) -> None:
    while True:
        await client.store.supported()
        await asyncio.sleep(0.01)


async def test_sigterm_ends_the_process_in_order(path: str) -> None:
    """`python -m tests.support.scripted_runtime` leaves no socket and no error behind."""
    async with process(path) as running:
        running.terminate()
        assert await asyncio.wait_for(running.wait(), 10) == 0
    assert not Path(path).exists()


async def test_waiting_ends_when_the_runtime_is_ready(path: str) -> None:
    """Waiting is said once, with why, and gives the version."""
    said: list[str] = []
    waiting = asyncio.create_task(wait_until_ready(path, 10, said.append))
    await asyncio.sleep(0.3)
    runtime = ScriptedRuntime(path)
    runtime.state.ready = False
    async with runtime:
        await asyncio.sleep(0.3)
        assert not waiting.done()
        runtime.state.ready = True
        assert (await waiting).name == "stand-in"
    assert len(said) == 1
    assert path in said[0]


async def test_a_runtime_that_is_ready_is_not_waited_for(path: str) -> None:
    """Nothing is said when there is nothing to wait for."""
    said: list[str] = []
    async with ScriptedRuntime(path):
        await wait_until_ready(path, 10, said.append)
    assert said == []


async def test_waiting_gives_up_in_time(path: str) -> None:
    """After its time the last reason is raised."""
    started = time.monotonic()
    with pytest.raises(RuntimeUnavailableError, match=r"r\.sock"):
        await wait_until_ready(path, 0.5, lambda _: None)
    assert 0.4 < time.monotonic() - started < 1.5


async def test_a_runtime_without_cri_is_told_apart(path: str) -> None:
    """containerd with its CRI plugin disabled answers, but has no CRI."""
    async with ScriptedRuntime(path, versions=[]):
        with pytest.raises(RuntimeUnavailableError, match="CRI plugin disabled"):
            await wait_until_ready(path, 0.3, lambda _: None)


async def test_why_it_is_not_ready_is_said(path: str) -> None:
    """The runtime's own reason is part of the message."""
    runtime = ScriptedRuntime(path)
    runtime.state.ready = False
    async with runtime:
        with pytest.raises(RuntimeUnavailableError, match="StandInNotReady"):
            await wait_until_ready(path, 0.3, lambda _: None)


async def test_waiting_says_why_every_ten_seconds(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at every attempt: at the first one, and then once in each interval."""
    monkeypatch.setattr("shimcore.runtime.readiness.NOTICE_INTERVAL_S", 0.5)
    said: list[str] = []
    with pytest.raises(RuntimeUnavailableError):
        await wait_until_ready(path, 1.4, said.append)
    assert 2 <= len(said) <= 3


async def test_a_cancelled_wait_ends(path: str) -> None:
    """Stopping the shim while it waits for the runtime stops the waiting."""
    waiting = asyncio.create_task(wait_until_ready(path, None, lambda _: None))
    await asyncio.sleep(0.1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_socket_that_appears_is_found(path: str) -> None:
    """At boot the runtime may come after the shim."""
    said: list[str] = []
    waiting = asyncio.create_task(wait_for_socket(10, said.append, [path]))
    await asyncio.sleep(0.2)
    async with ScriptedRuntime(path):
        assert await waiting == path
    assert len(said) == 1


async def test_two_runtimes_are_not_waited_for(tmp_path: Path) -> None:
    """Time does not mend that, so the error comes at once."""
    paths = [str(tmp_path / "a.sock"), str(tmp_path / "b.sock")]
    async with ScriptedRuntime(paths[0]), ScriptedRuntime(paths[1]):
        with pytest.raises(SeveralRuntimesError):
            await wait_for_socket(10, lambda _: None, paths)
