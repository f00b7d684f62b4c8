"""`serve` as a process: what passes, reload, and what happens when the runtime goes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from shimcore.client import admin
from shimcore.client.admin import Condition, Endpoint, endpoint_of, status
from shimcore.pb import cri_pb2
from shimcore.unixsocket import connected
from tests.support.activation import ActivatedService
from tests.support.calling import IMAGES, RUNTIME, open_channel, unary
from tests.support.cri import status_request
from tests.support.polling import until
from tests.support.scripted_runtime import ScriptedRuntime
from tests.support.serving import ServeProcess, serving


async def test_foreign_calls_pass_with_metadata_trailers_and_details(
    runtime: ScriptedRuntime, tmp_path: Path
) -> None:
    """A service that no proto of ours names works, unary and streaming, errors included."""
    async with serving(tmp_path, runtime.socket_path) as shim, open_channel(shim.socket) as channel:
        assert await unary(channel, "/x.Unknown/Echo", b"\x00anything") == b"\x00anything"
        stream: Any = channel.unary_stream("/x.Unknown/Stream")
        call = stream(b"", metadata=(("count", "25"),))
        assert len([message async for message in call]) == 25
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await unary(channel, "/x.Unknown/Missing", b"")
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_runtime_gone_and_back(runtime: ScriptedRuntime, tmp_path: Path, loop: str) -> None:
    """While the runtime is away calls end UNAVAILABLE; when it is back, the next one works."""
    shim = ServeProcess(tmp_path, runtime.socket_path)
    await asyncio.to_thread(shim.start, env={"IMAGE_CRI_SHIM_LOOP": loop})
    try:
        async with open_channel(shim.socket) as channel:
            assert await unary(channel, "/x.Unknown/Echo", b"1") == b"1"
            await runtime.stop()
            with pytest.raises(grpc.aio.AioRpcError) as gone:
                await unary(channel, "/x.Unknown/Echo", b"2")
            assert gone.value.code() is grpc.StatusCode.UNAVAILABLE
            await runtime.start()
            call: Any = channel.unary_unary("/x.Unknown/Echo")
            assert await call(b"3", timeout=10, wait_for_ready=True) == b"3"
    finally:
        shim.kill()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_runtime_that_does_not_accept(tmp_path: Path, loop: str) -> None:
    """Its queue of connections is full: the status says so; a moment of it nobody notices."""
    path = str(tmp_path / "runtime.sock")
    shim = ServeProcess(tmp_path, path, force=True)
    with socket.socket(socket.AF_UNIX) as listening, contextlib.ExitStack() as waiting:
        listening.bind(path)
        listening.listen(1)
        with contextlib.suppress(BlockingIOError):
            while True:
                waiting.enter_context(connected(path))
        await asyncio.to_thread(shim.start, env={"IMAGE_CRI_SHIM_LOOP": loop})
        try:
            async with open_channel(shim.socket) as channel:
                call: Any = channel.unary_unary(f"{RUNTIME}Version")
                with pytest.raises(grpc.aio.AioRpcError) as away:
                    await call(b"", timeout=20)
                assert away.value.code() is grpc.StatusCode.UNAVAILABLE
                details = away.value.details() or ""
                assert f"{path} cannot be reached (it does not accept" in details
                assert details in shim.log.replace("; calls are answered UNAVAILABLE", "")
            async with open_channel(shim.socket) as channel:
                answer = asyncio.ensure_future(unary(channel, "/x.Unknown/Echo", b"1"))
                await asyncio.sleep(0.3)
                listening.close()
                runtime = ScriptedRuntime(path)
                os.unlink(path)
                await runtime.start()
                assert await answer == b"1"
                await runtime.stop()
        finally:
            shim.kill()


async def test_force_serves_unavailable_until_the_runtime_is_up(tmp_path: Path) -> None:
    """`force: true` listens at once; the status names the runtime's socket and what to do."""
    path = str(tmp_path / "runtime.sock")
    async with serving(tmp_path, path, force=True) as shim, open_channel(shim.socket) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as away:
            await unary(channel, f"{RUNTIME}Version", b"")
        assert away.value.code() is grpc.StatusCode.UNAVAILABLE
        assert path in (away.value.details() or "")
        later = ScriptedRuntime(path)
        await later.start()
        call: Any = channel.unary_unary("/x.Unknown/Echo")
        assert await call(b"up", timeout=10, wait_for_ready=True) == b"up"
        await later.stop()


# The known places, in the folder of the test.
KNOWN = """
import os
import shimcore.runtime.detection as detection
detection.KNOWN_SOCKETS = (os.path.abspath("containerd.sock"), os.path.abspath("crio.sock"))
detection.detect_socket.__defaults__ = (detection.KNOWN_SOCKETS,)
"""


@pytest.fixture
def forced(tmp_path: Path) -> Iterator[ActivatedService]:
    """A service with `force` and without `cri`, not started."""
    service = ActivatedService(tmp_path, "", force=True)
    del service.keys["cri"]
    service.write_config()
    service.command = service.make_command("known", KNOWN)
    yield service
    service.close()


@pytest.mark.parametrize("name", ["containerd", "crio"])
async def test_force_takes_the_runtime_that_appears(forced: ActivatedService, name: str) -> None:
    """The one that was assumed as it is; for another one the process ends, which says so, and the
    next start has it."""
    await asyncio.to_thread(forced.start)
    assert "assuming" in forced.log
    assert forced.process is not None
    async with ScriptedRuntime(str(forced.folder / f"{name}.sock"), record=False):
        if name == "crio":
            assert await asyncio.to_thread(forced.wait) == 1
            assert f"a container runtime has appeared at {forced.folder}/crio.sock" in forced.log
            assert "Traceback" not in forced.log
            await asyncio.to_thread(forced.start)
        async with open_channel(forced.socket) as channel:
            call: Any = channel.unary_unary("/x.Unknown/Echo")
            assert await call(b"up", timeout=10, wait_for_ready=True) == b"up"
        await asyncio.sleep(2.5)
        assert forced.process.poll() is None


async def test_force_takes_none_of_two_runtimes(forced: ActivatedService) -> None:
    """As without `force`: which one kubelet shall use has to be said."""
    first, second = (str(forced.folder / name) for name in ("containerd.sock", "crio.sock"))
    async with ScriptedRuntime(first, record=False), ScriptedRuntime(second, record=False):
        await asyncio.to_thread(forced.start, wait=False)
        assert await asyncio.to_thread(forced.wait) == 1
        assert f"more than one container runtime is here: {first}, {second}" in forced.log


async def test_without_force_it_waits_says_so_and_gives_up(tmp_path: Path) -> None:
    """No runtime within `timeout`: status 1, one closing line, no socket made meanwhile."""
    async with serving(tmp_path, tmp_path / "none.sock", wait=False, timeout="1s") as shim:
        await asyncio.to_thread(shim.wait_log, "waiting for the container runtime")
        assert not os.path.exists(shim.socket)
        assert await asyncio.to_thread(shim.wait) == 1
    assert "Traceback" not in shim.log


async def test_without_threads_it_says_so(runtime: ScriptedRuntime, tmp_path: Path) -> None:
    """Before gRPC ends the process without a word: status 1, one line, no socket made."""
    (tmp_path / "sitecustomize.py").write_text(
        "import _thread\n"
        'def refuse(*_): raise RuntimeError("can\'t start new thread")\n'
        "_thread.start_new_thread = refuse\n"
    )
    path = os.pathsep.join(map(str, (tmp_path, os.environ.get("PYTHONPATH", ""))))
    shim = ServeProcess(tmp_path, runtime.socket_path)
    shim.start(wait=False, env={"PYTHONPATH": path})
    assert await asyncio.to_thread(shim.wait) == 1
    assert re.fullmatch(r"image-cri-shim: threads cannot be had \(0 of \d+: .*\n", shim.log)
    assert not os.path.exists(shim.socket)


async def test_sighup_reloads_and_a_bad_file_keeps_the_old_config(
    runtime: ScriptedRuntime, tmp_path: Path
) -> None:
    """`status` shows the fault while the file is bad, and the new config once it is good."""
    async with serving(tmp_path, runtime.socket_path, reloadInterval="1h") as shim:
        shim.write_text("address: ''\nnonsense: 1\n")
        shim.signal(signal.SIGHUP)
        await asyncio.to_thread(shim.wait_log, "the configuration in force stays")
        found = await asyncio.to_thread(
            status,
            Endpoint(str(shim.file), shim.socket, f"{shim.socket}.admin"),
        )
        assert found.condition is Condition.DEGRADED
        assert found.facts["config"]["valid"] is False
        assert "nonsense" in found.facts["config"]["error"]
        shim.write_config(address="http://127.0.0.1:10")
        shim.signal(signal.SIGHUP)
        await asyncio.to_thread(shim.wait_log, "configuration reloaded")
        found = await asyncio.to_thread(status, endpoint_of(str(shim.file)))
        assert found.facts["config"]["valid"] is True
        assert found.facts["registries"][0]["address"] == "http://127.0.0.1:10"


async def test_a_changed_file_is_noticed_by_itself(
    runtime: ScriptedRuntime, tmp_path: Path
) -> None:
    """Without a signal the file is looked at every reloadInterval."""
    async with serving(tmp_path, runtime.socket_path, reloadInterval="100ms") as shim:
        shim.write_config(address="http://127.0.0.1:11")
        await asyncio.to_thread(shim.wait_log, "configuration reloaded")


async def test_no_secret_in_the_log(runtime: ScriptedRuntime, tmp_path: Path) -> None:
    """Neither the hub's password nor the caller's stands in the log of a debugged pull."""
    async with serving(
        tmp_path, runtime.socket_path, auth="admin:hub-s3cret", debug=True, reloadInterval="100ms"
    ) as shim:
        request = cri_pb2.PullImageRequest(
            image=cri_pb2.ImageSpec(image="nginx"),
            auth=cri_pb2.AuthConfig(username="me", password="caller-s3cret"),
        )
        async with open_channel(shim.socket) as channel:
            await unary(channel, f"{IMAGES}PullImage", request.SerializeToString())
        await asyncio.to_thread(shim.wait_log, "call=PullImage")
        shim.write_config(auth="admin:other-s3cret")
        await asyncio.to_thread(shim.wait_log, "configuration reloaded")
        assert "s3cret" not in shim.log


async def test_a_cancelled_call_ends_the_work_on_the_side(
    runtime: ScriptedRuntime, tmp_path: Path
) -> None:
    """The client gives a held ImageStatus up: the runtime sees its question cancelled."""
    asked, ended = asyncio.Event(), asyncio.Event()

    async def hang(*_: object) -> Any:
        asked.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    async with serving(tmp_path, runtime.socket_path) as shim:
        runtime.overrides["ImageService/ImageStatus"] = hang
        async with open_channel(shim.socket) as channel:
            call = asyncio.ensure_future(
                unary(channel, f"{IMAGES}ImageStatus", status_request("nginx"))
            )
            await asyncio.wait_for(asked.wait(), 10)
            call.cancel()
            await asyncio.wait_for(ended.wait(), 10)


def _descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


async def test_descriptors_return_to_where_they_were(
    runtime: ScriptedRuntime, tmp_path: Path
) -> None:
    """Two hundred connections, closed, half-closed and reset, leave no descriptor behind."""
    async with serving(tmp_path, runtime.socket_path) as shim:
        assert shim.process is not None
        pid = shim.process.pid
        async with open_channel(shim.socket) as channel:
            await unary(channel, "/x.Unknown/Echo", b"warm")
        await asyncio.sleep(0.5)
        before = _descriptors(pid)
        for number in range(200):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(shim.socket)
                client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[: number % 25])
                if number % 3 == 0:
                    client.shutdown(socket.SHUT_WR)
        await until(lambda: _descriptors(pid) <= before, lambda: _descriptors(pid))


async def test_a_reader_that_does_not_read_costs_bounded_memory(
    runtime: ScriptedRuntime, tmp_path: Path
) -> None:
    """A stream of 600 MB for a client that reads nothing does not grow the shim."""
    async with serving(tmp_path, runtime.socket_path) as shim:
        assert shim.process is not None
        async with open_channel(shim.socket) as channel:
            await unary(channel, "/x.Unknown/Echo", b"warm")
            before = _resident_kib(shim.process.pid)
            stream: Any = channel.unary_stream("/x.Unknown/Stream")
            call = stream(b"x" * 60_000, metadata=(("count", "10000"),))
            await call.read()
            await asyncio.sleep(2)
            grown = _resident_kib(shim.process.pid) - before
            call.cancel()
        assert grown < 8 * 1024, f"{grown} KiB"


def _resident_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


async def test_status_of_a_bypass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is at the admin socket, the shim's own is served, systemd's sign of it is there."""
    process = ServeProcess(tmp_path, tmp_path / "runtime.sock")
    monkeypatch.setattr(admin, "SIGN", str(tmp_path))
    assert status(endpoint_of(str(process.file))).condition is Condition.NOT_RUNNING
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(process.socket)
        other.listen()
        found = status(endpoint_of(str(process.file)))
    assert found.condition is Condition.BYPASS
    assert "does not start" in found.detail[0]
