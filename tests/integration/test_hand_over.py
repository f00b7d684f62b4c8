"""An upgrade without a gap: one process after the other on the same socket, under load."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from shimcore.client.admin import endpoint_of, running_endpoint, status
from shimcore.client.handover import (
    HandedOver,
    HandOverFailedError,
    RestartNeededError,
    RunningService,
    prepare,
)
from shimcore.errors import AdminError
from shimcore.images.journal import Journal
from shimcore.pb import cri_pb2
from tests.support.activation import ActivatedService, alive, wait_gone
from tests.support.calling import open_channel
from tests.support.polling import until
from tests.support.registry_puller import RegistryPuller
from tests.support.scripted_registry import ScriptedRegistry
from tests.support.scripted_runtime import ScriptedRuntime
from tests.support.standin_images import PulledImage

IMAGES = "/runtime.v1.ImageService/"


class SlowPuller(RegistryPuller):
    """A pull sets `begun`, and ends when `may_end` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()

    async def __call__(self, image: str, auth: cri_pb2.AuthConfig | None) -> PulledImage:
        pulled = await super().__call__(image, auth)
        self.begun.set()
        await self.may_end.wait()
        return pulled


# What it has not loaded when the file `closed` appears it never will.
CLOSED = """
import os, sys
class Closed:
    def find_spec(self, name, *_):
        if os.path.exists("closed"):
            raise ModuleNotFoundError(f"{name} is loaded too late", name=name)
sys.meta_path.insert(0, Closed())
"""


# It does not serve, which shows when its predecessor has left.
FAILS = """
import shimcore.daemon.front as front
from shimcore.errors import ShimError
async def no(*_): raise ShimError("no room here")
front.Front.open = no
"""


class Node:
    """A runtime that pulls slowly, a hub with `web:v1` to `v9`, and the service between them."""

    def __init__(self, runtime: ScriptedRuntime, hub: ScriptedRegistry, service: ActivatedService):
        self.runtime = runtime
        self.hub = hub
        self.service = service

    @property
    def puller(self) -> SlowPuller:
        assert isinstance(self.runtime.puller, SlowPuller)
        return self.runtime.puller

    async def hand_over(self, command: str | None = None) -> HandedOver:
        endpoint = endpoint_of(str(self.service.file))
        running = RunningService(endpoint, command or self.service.command)
        done = await asyncio.to_thread(running.hand_over)
        assert self.service.main_pid == done.pid, self.service.log
        return done

    async def pull(self, channel: grpc.aio.Channel, image: str) -> str:
        request = cri_pb2.PullImageRequest(image=cri_pb2.ImageSpec(image=image))
        call: Any = channel.unary_unary(f"{IMAGES}PullImage")
        answer = await call(request.SerializeToString(), timeout=60)
        return str(cri_pb2.PullImageResponse.FromString(answer).image_ref)

    def names(self) -> set[str]:
        """The names in the runtime's store, IDs aside."""
        return {name for name in self.runtime.table.records if not name.startswith("sha256:")}

    def older(self) -> list[dict[str, Any]]:
        found = status(endpoint_of(str(self.service.file))).facts["older_processes"]
        assert isinstance(found, list)
        return found


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    puller = SlowPuller()
    runtime = ScriptedRuntime(str(tmp_path / "runtime.sock"), puller=puller, record=False)
    async with runtime, ScriptedRegistry() as hub:
        for number in range(1, 10):
            hub.add_image("library/web", f"v{number}")
        service = ActivatedService(tmp_path, runtime.socket_path, address=hub.address)
        try:
            await asyncio.to_thread(service.start)
            yield Node(runtime, hub, service)
        finally:
            service.close()


class Load:
    """Small calls, one after the other, on one connection until it is ended."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._ended = False
        self.well = 0
        self.failed: list[str] = []
        self.slowest_s = 0.0

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        async with open_channel(self._path) as channel:
            call: Any = channel.unary_unary("/x.Unknown/Echo")
            while not self._ended:
                began = loop.time()
                try:
                    assert await call(b"small", timeout=20) == b"small"
                    self.well += 1
                except grpc.aio.AioRpcError as error:
                    self.failed.append(f"{error.code().name}: {error.details()}")
                self.slowest_s = max(self.slowest_s, loop.time() - began)
                await asyncio.sleep(0)

    def end(self) -> None:
        self._ended = True


@contextlib.asynccontextmanager
async def load(path: str, clients: int = 3) -> AsyncIterator[list[Load]]:
    """Clients that call all the while; none of their calls may have failed."""
    each = [Load(path) for _ in range(clients)]
    tasks = [asyncio.ensure_future(one.run()) for one in each]
    try:
        yield each
    finally:
        await asyncio.sleep(0.3)
        for one in each:
            one.end()
        await asyncio.gather(*tasks)
    assert [failure for one in each for failure in one.failed] == []
    print([(one.well, round(one.slowest_s, 3)) for one in each])


async def test_nothing_fails_and_what_runs_ends_where_it_began(node: Node) -> None:
    """A pull, a stream and small calls all the while: no call fails, the pulled image has its own
    name alone, and the old process ends with its last call."""
    service = node.service
    old, inode = service.main_pid, service.inode
    async with open_channel(service.socket) as channel, load(service.socket):
        pulling = asyncio.ensure_future(node.pull(channel, "web:v1"))
        chat: Any = channel.stream_stream("/x.Unknown/Chat")()
        await chat.write(b"before")
        assert await chat.read() == b"before"
        await asyncio.wait_for(node.puller.begun.wait(), 20)
        done = await node.hand_over()
        assert done.pid != old
        assert not pulling.done()
        async with asyncio.timeout(10):
            while [one["pid"] for one in await asyncio.to_thread(node.older)] != [old]:
                await asyncio.sleep(0.1)
        (older,) = await asyncio.to_thread(node.older)
        assert older["calls"] >= 2
        await chat.write(b"after")
        assert await chat.read() == b"after"
        node.puller.may_end.set()
        assert (await pulling).startswith("sha256:")
        assert node.names() >= {"docker.io/library/web:v1"}
        assert not [name for name in node.names() if node.hub.host in name]
        assert alive(old)
        await chat.done_writing()
        assert await chat.read() == grpc.aio.EOF
        await asyncio.to_thread(wait_gone, old, 20)
        assert service.inode == inode
        assert "docker.io/library/web:v1" in node.names()
        assert await asyncio.to_thread(node.older) == []
    assert service.process is not None
    assert service.process.wait(5) == 0
    assert alive(done.pid)


async def test_a_new_version_that_does_not_start_changes_nothing(node: Node) -> None:
    """It dies at once, or later, or says nothing: the process before goes on, calls do not fail."""
    service = node.service
    old = service.main_pid
    dies = service.make_command("dies", "raise SystemExit(3)")
    fails = service.make_command("fails", FAILS)
    async with load(service.socket):
        for command, why in ((dies, "ended"), (fails, "no room here"), ("/nowhere", "ended")):
            with pytest.raises(HandOverFailedError, match=f"{why}.*; the process before goes on;"):
                await node.hand_over(command)
        assert service.main_pid == old
        found = await asyncio.to_thread(status, endpoint_of(str(service.file)))
        assert found.facts["serving"]
        done = await node.hand_over()
        assert done.pid != old
    await asyncio.to_thread(wait_gone, old, 20)


@pytest.mark.parametrize("faulty", [True, False])
async def test_a_file_that_names_another_admin_socket_by_now(node: Node, faulty: bool) -> None:
    """The process that runs is found; with a file that has a fault it goes on as it was."""
    service, other = node.service, f"{node.service.socket}.other"
    copy = service.folder / "state" / "last-good.json"
    await until(copy.exists, "the configuration is not kept")
    service.write_config(admin=other, **({"nosuchkey": 1} if faulty else {}))
    done = await service.run_command("hand-over", "--command", service.command)
    assert done.returncode == 0, done.stderr
    assert f"(process {service.main_pid})" in done.stdout
    assert len(service.pids) == 2
    assert Path(other).exists() != faulty
    assert Path(f"{service.socket}.admin").exists() == faulty


# Systemd has opened one more socket for it.
TWO_SOCKETS = """
import os, socket
another = socket.socket(socket.AF_UNIX)
another.bind("another.sock")
another.listen()
os.dup2(another.fileno(), 4)
if another.fileno() == 4:
    another.detach()
os.environ["LISTEN_FDS"] = "2"
"""


async def test_one_socket_can_be_handed_over(tmp_path: Path) -> None:
    """Where systemd holds two, the clients of the other one would wait for ever."""
    runtime = ScriptedRuntime(str(tmp_path / "runtime.sock"), record=False)
    async with runtime:
        service = ActivatedService(tmp_path, runtime.socket_path)
        service.command = service.make_command("two-shim", TWO_SOCKETS)
        try:
            await asyncio.to_thread(service.start)
            running = RunningService(endpoint_of(str(service.file)), service.command)
            with pytest.raises(RestartNeededError, match="another socket of it"):
                await asyncio.to_thread(running.hand_over)
            for path in (service.socket, str(tmp_path / "another.sock")):
                async with open_channel(path) as channel:
                    call: Any = channel.unary_unary("/x.Unknown/Echo")
                    assert await call(b"1", timeout=10) == b"1"
        finally:
            service.close()


@pytest.mark.parametrize("by_link", [False, True])
async def test_a_file_that_has_another_shim_by_now(tmp_path: Path, by_link: bool) -> None:
    """Only a restart can follow it: systemd holds the socket of before. A link is no other one."""
    runtime = ScriptedRuntime(str(tmp_path / "runtime.sock"), record=False)
    async with runtime:
        service = ActivatedService(tmp_path, runtime.socket_path)
        try:
            await asyncio.to_thread(service.start)
            new = tmp_path / "new.sock"
            if by_link:
                new.symlink_to(service.socket)
            service.write_config(shim=str(new))
            file = str(service.file)
            await until(lambda: running_endpoint(file).changed, "no word of what serves")
            running = RunningService(running_endpoint(file), service.command)
            if by_link:
                done = await asyncio.to_thread(running.hand_over)
                assert done.pid == service.main_pid != service.pids[0]
                return
            why = f"{service.file} has another shim by now: {new}"
            with pytest.raises(RestartNeededError, match=re.escape(why)):
                await asyncio.to_thread(running.hand_over)
            assert service.main_pid == service.pids[0]
        finally:
            service.close()


# Its admin socket cannot be made once the file `full` is there.
FULL = """
import os
import grpc.aio._server as server
plain = server.Server.add_insecure_port
def add(self, address):
    if os.path.exists("full"):
        raise RuntimeError("Failed to bind to address")
    return plain(self, address)
server.Server.add_insecure_port = add
"""


async def test_a_process_that_cannot_come_back_ends(tmp_path: Path) -> None:
    """For another start: one that stays serves nobody. It says why, in its log and to who asked."""
    runtime = ScriptedRuntime(str(tmp_path / "runtime.sock"), record=False)
    async with runtime:
        service = ActivatedService(tmp_path, runtime.socket_path)
        service.command = service.make_command("full-shim", FULL)
        try:
            await asyncio.to_thread(service.start)
            old = service.main_pid
            fails = service.make_command("fails", FAILS)
            (tmp_path / "full").touch()
            running = RunningService(endpoint_of(str(service.file)), fails)
            why = r"this process ends, for .* admin socket .* cannot be made"
            with pytest.raises(HandOverFailedError, match=why) as failed:
                await asyncio.to_thread(running.hand_over)
            assert "goes on" not in str(failed.value)
            await asyncio.to_thread(wait_gone, old, 20)
            assert "it cannot serve again: admin socket" in service.log
        finally:
            service.close()


# No file can be made in the admin socket's folder once the file `read-only` is there.
READ_ONLY = """
import os
plain = os.open
def opened(path, flags, *rest, **more):
    if flags & os.O_CREAT and "/admin/" in str(path) and os.path.exists("read-only"):
        raise OSError(30, "Read-only file system", path)
    return plain(path, flags, *rest, **more)
os.open = opened
"""


async def test_a_place_that_takes_no_socket_is_seen_before_it_is_left(tmp_path: Path) -> None:
    """Neither process could make one there: the one that has it keeps it, and serves on."""
    runtime = ScriptedRuntime(str(tmp_path / "runtime.sock"), record=False)
    async with runtime:
        service = ActivatedService(
            tmp_path, runtime.socket_path, admin=str(tmp_path / "admin/socket")
        )
        service.command = service.make_command("read-only-shim", READ_ONLY)
        try:
            await asyncio.to_thread(service.start)
            endpoint = endpoint_of(str(service.file))
            (tmp_path / "read-only").touch()
            why = "admin/socket: Read-only file system; .*; the process before goes on; see"
            with pytest.raises(HandOverFailedError, match=why):
                await asyncio.to_thread(RunningService(endpoint, service.command).hand_over)
            assert alive(service.pids[0])
            assert (await asyncio.to_thread(status, endpoint)).facts["serving"]
            (tmp_path / "read-only").unlink()
            assert sorted(os.listdir(tmp_path / "admin")) == ["socket", "socket.lock"]
        finally:
            service.close()


async def test_what_a_killed_predecessor_leaves_is_ended_by_its_successor(node: Node) -> None:
    """kill -9 in the middle of its last pull: the name that the pull brings later is made right."""
    service = node.service
    old = service.main_pid
    async with open_channel(service.socket) as channel:
        pulling = asyncio.ensure_future(node.pull(channel, "web:v2"))
        await asyncio.wait_for(node.puller.begun.wait(), 20)
        await node.hand_over()
        journal = service.folder / "state" / "pulls.journal"
        await until(journal.exists, "the pull is in no journal")
        os.kill(old, signal.SIGKILL)
        with pytest.raises(grpc.aio.AioRpcError):
            await pulling
    async with asyncio.timeout(30):
        while await Journal(None).load(str(journal)):  # gone, or the successor's, nothing open
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("prepared", [True, False])
async def test_prepared_it_needs_no_file_any_more(tmp_path: Path, prepared: bool) -> None:
    """The first pull after its files are gone goes well in a prepared process, and only there."""
    runtime = ScriptedRuntime(str(tmp_path / "runtime.sock"), puller=RegistryPuller(), record=False)
    async with runtime, ScriptedRegistry() as hub:
        hub.add_image("library/web", "v1")
        service = ActivatedService(
            tmp_path, runtime.socket_path, address=hub.address, fallback="deny"
        )
        service.command = service.make_command("closing", CLOSED)
        node = Node(runtime, hub, service)
        try:
            await asyncio.to_thread(service.start)
            if prepared:
                said = await asyncio.to_thread(prepare, endpoint_of(str(service.file)))
                assert "needs its files no more" in said
            (tmp_path / "closed").touch()
            async with open_channel(service.socket) as channel:
                if prepared:
                    assert (await node.pull(channel, "web:v1")).startswith("sha256:")
                else:
                    with pytest.raises(grpc.aio.AioRpcError, match="unexpected error"):
                        await node.pull(channel, "web:v1")
            assert ("loaded too late" in service.log) != prepared
        finally:
            service.close()


async def test_nothing_runs_that_could_be_prepared(tmp_path: Path) -> None:
    """Said, and no error: an upgrade goes on."""
    (tmp_path / "config.yaml").write_text(
        f"address: http://127.0.0.1:9\nshim: {tmp_path}/shim.sock\nstateDir: {tmp_path}/state\n"
    )
    said = prepare(endpoint_of(str(tmp_path / "config.yaml")))
    assert said == "nothing to prepare: no service runs"


async def test_twice_in_a_row(node: Node) -> None:
    """Three processes at a time, each with a pull of its own: all end well, under their names."""
    service = node.service
    pids = [service.main_pid]
    pulls = []
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(load(service.socket))
        for number in (1, 2, 3):
            channel = await stack.enter_async_context(open_channel(service.socket))
            node.puller.begun.clear()
            pulls.append(asyncio.ensure_future(node.pull(channel, f"web:v{number}")))
            await asyncio.wait_for(node.puller.begun.wait(), 20)
            if number < 3:
                pids.append((await node.hand_over()).pid)
        assert len(set(pids)) == 3
        node.puller.may_end.set()
        await asyncio.gather(*pulls)
    wanted = {f"docker.io/library/web:v{number}" for number in (1, 2, 3)}
    assert {name for name in node.names() if "@" not in name} == wanted
    for pid in pids[:2]:
        await asyncio.to_thread(wait_gone, pid, 20)
    assert alive(pids[2])


def running(command: str) -> list[int]:
    """The processes that run a command."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if command.encode() in place.read_bytes().split(b"\0"):
                found.append(int(place.parent.name))
    return found


@pytest.mark.parametrize("stops_after_s", [0.05, 0.7])
async def test_a_stop_ends_a_hand_over(node: Node, stops_after_s: float) -> None:
    """systemd ends its main process and no other: a successor that served would be nobody's."""
    service, old = node.service, node.service.main_pid
    slow = service.make_command("slow", "import time; time.sleep(1)")
    async with open_channel(service.socket) as channel:
        pulling = asyncio.ensure_future(node.pull(channel, "web:v3"))
        await asyncio.wait_for(node.puller.begun.wait(), 20)
        handing = asyncio.ensure_future(node.hand_over(slow))
        await asyncio.sleep(stops_after_s)
        os.kill(old, signal.SIGTERM)
        with pytest.raises(AdminError):
            await asyncio.wait_for(handing, 20)
        await until(lambda: not any(map(alive, running(slow))), "the successor runs")
        assert alive(old)  # within the time for what runs
        node.puller.may_end.set()
        assert (await pulling).startswith("sha256:")
    await asyncio.to_thread(wait_gone, old, 20)
    assert service.main_pid == old
    assert not Path(f"{service.socket}.admin").exists()
