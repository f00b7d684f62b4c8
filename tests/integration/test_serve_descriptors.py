"""`serve` where descriptors are short, or not what they are said to be."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from shimcore.daemon.descriptors import most_connections
from tests.support import raw
from tests.support.scripted_runtime import ScriptedRuntime
from tests.support.serving import COMMAND, ServeProcess, serving

VERSION = "/runtime.v1.RuntimeService/Version"


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[ScriptedRuntime]:
    async with ScriptedRuntime(str(tmp_path / "runtime.sock")) as started:
        yield started


@contextlib.contextmanager
def none_left(shim: ServeProcess, more: int = 0) -> Iterator[None]:
    """The process cannot open more than `more` further descriptors meanwhile."""
    assert shim.process is not None
    pid = shim.process.pid
    usual = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir(f"/proc/{pid}/fd"))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 1 + more, usual[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)


def crowd(path: str, number: int) -> list[socket.socket]:
    """Clients that connect and say nothing."""
    clients = []
    for _ in range(number):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(0.2)
        with contextlib.suppress(OSError):
            client.connect(path)
        clients.append(client)
    return clients


async def answers(path: str) -> None:
    options = (("grpc.use_local_subchannel_pool", 1),)
    async with grpc.aio.insecure_channel(f"unix:{path}", options=options) as channel:
        call: Any = channel.unary_unary(VERSION)
        await call(b"", timeout=20, wait_for_ready=True)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_sighup_without_a_free_descriptor(
    runtime: ScriptedRuntime, tmp_path: Path, loop: str
) -> None:
    """The file cannot be read then, which is said; the shim goes on and reloads later."""
    process = ServeProcess(tmp_path, runtime.socket_path, reloadInterval="1h")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        environment = {
            "IMAGE_CRI_SHIM_LOOP": loop,
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "WATCHDOG_USEC": "300000",
        }
        try:
            await asyncio.to_thread(process.start, env=environment)
            await answers(process.socket)
            with none_left(process):
                process.signal(signal.SIGHUP)
                await asyncio.sleep(2)
            assert process.process is not None
            assert process.process.poll() is None, process.log
            process.write_config(debug=True)
            process.signal(signal.SIGHUP)
            await asyncio.to_thread(process.wait_log, "configuration reloaded")
            await answers(process.socket)
            assert "Traceback" not in process.log
        finally:
            process.kill()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_more_clients_than_descriptors(
    runtime: ScriptedRuntime, tmp_path: Path, loop: str
) -> None:
    """A few lines of log, no more; afterwards everybody is served again."""
    process = ServeProcess(tmp_path, runtime.socket_path, reloadInterval="1h")
    try:
        await asyncio.to_thread(process.start, env={"IMAGE_CRI_SHIM_LOOP": loop})
        before = len(process.log)
        with none_left(process, more=20):
            clients = await asyncio.to_thread(crowd, process.socket, 60)
            await asyncio.sleep(4)
            for client in clients:
                client.close()
        said = len(process.log) - before
        print(f"{loop}: {said} bytes of log")
        assert said < 10_000, process.log[-5000:]
        await answers(process.socket)
    finally:
        process.kill()


async def test_connections_leave_descriptors_for_everything_else(
    runtime: ScriptedRuntime, tmp_path: Path
) -> None:
    """The limit is raised as far as it goes; clients over what it allows are closed at once."""
    process = ServeProcess(tmp_path, runtime.socket_path, reloadInterval="1h")
    limit = 400
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        # The shim inherits a soft limit that it may raise to 400.
        await asyncio.to_thread(_start_with, process, 64, limit)
        assert process.process is not None
        assert resource.prlimit(process.process.pid, resource.RLIMIT_NOFILE) == (limit, limit)
        clients = await asyncio.to_thread(crowd, process.socket, 3 * limit)
        await asyncio.to_thread(process.wait_log, "connections were not taken")
        process.write_config(debug=True)
        process.signal(signal.SIGHUP)
        await asyncio.to_thread(process.wait_log, "configuration reloaded")
        held = len(os.listdir(f"/proc/{process.process.pid}/fd"))
        assert held < 2 * most_connections(limit) + 100
        for client in clients:
            client.close()
        await answers(process.socket)
    finally:
        process.kill()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)


async def test_a_crowd_of_one_process_is_served(runtime: ScriptedRuntime, tmp_path: Path) -> None:
    """Hundreds of connections at once wait at their process's pace; none is closed."""
    async with contextlib.AsyncExitStack() as stack:
        shim = await stack.enter_async_context(serving(tmp_path, runtime.socket_path))
        clients = [await stack.enter_async_context(raw.connected(shim.socket)) for _ in range(260)]
        for client in clients:
            await raw.send(client, raw.opening() + raw.call(1, VERSION, b""))
        for client in clients:
            assert b"grpc-status" in await raw.read_until(client, b"grpc-status", 20)


def _start_with(process: ServeProcess, soft: int, hard: int) -> None:
    with process.log_file.open("ab") as log:
        limits = f"ulimit -Sn {soft}; ulimit -Hn {hard}; exec"
        process.process = subprocess.Popen(
            ["sh", "-c", f'{limits} "$@"', "sh", *COMMAND, "-f", str(process.file), "serve"],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    process.wait_log("serving")


@pytest.mark.parametrize(
    ("count", "said"),
    [
        ("abc", "LISTEN_FDS: a number of sockets expected, not 'abc'"),
        ("-1", "LISTEN_FDS: a number of sockets expected"),
        ("99999999999999999999", "LISTEN_FDS: a number of sockets expected"),
        ("1", "descriptor 3 cannot be used: Bad file descriptor"),
    ],
)
def test_sockets_that_were_not_handed_over(tmp_path: Path, count: str, said: str) -> None:
    """One line that names the variable or the descriptor, and status 1."""
    process = ServeProcess(tmp_path, tmp_path / "runtime.sock")
    script = 'LISTEN_PID=$$ LISTEN_FDS="$0" exec "$@" 3<&-'
    done = subprocess.run(
        ["sh", "-c", script, count, *COMMAND, "-f", str(process.file), "serve"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


async def test_a_lock_file_that_is_a_link_is_not_followed(
    runtime: ScriptedRuntime, tmp_path: Path
) -> None:
    """Nothing is made at its target; the line says what to remove."""
    (tmp_path / "shim.sock.lock").symlink_to(tmp_path / "elsewhere")
    async with serving(tmp_path, runtime.socket_path, wait=False) as shim:
        assert await asyncio.to_thread(shim.wait) == 1
        assert "shim.sock.lock is a symbolic link" in shim.log
        assert shim.log.count("\n") == 1
    assert not (tmp_path / "elsewhere").exists()


def test_a_descriptor_that_is_no_socket_is_passed_over(tmp_path: Path) -> None:
    """systemd may hand over others as well."""
    program = (
        "import os; from shimcore.daemon.activation import inherited_sockets;"
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1');"
        "print(inherited_sockets())"
    )
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" 3</dev/null', sys.executable, program],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"
