"""The socket of `serve`: its access, and whose place it takes."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
from pathlib import Path

from tests.support.activation import ActivatedService
from tests.support.calling import open_channel, unary
from tests.support.scripted_runtime import ScriptedRuntime
from tests.support.serving import COMMAND, serving

DEAF = """
import shimcore.daemon.accepting as accepting
accepting.Acceptor._resume = lambda self: None
"""


async def test_the_socket_takes_the_runtimes_access_but_never_more_than_0660(
    runtime: ScriptedRuntime, tmp_path: Path
) -> None:
    """Mode follows the runtime's socket; others get nothing."""
    os.chmod(runtime.socket_path, 0o777)
    async with serving(tmp_path, runtime.socket_path) as shim:
        assert stat.S_IMODE(os.stat(shim.socket).st_mode) == 0o660
        assert stat.S_IMODE(os.stat(f"{shim.socket}.admin").st_mode) == 0o600


async def test_a_second_shim_does_not_steal_the_socket(
    runtime: ScriptedRuntime, tmp_path: Path
) -> None:
    """The second one ends with status 1 and one line; the first one goes on serving."""
    async with serving(tmp_path, runtime.socket_path) as shim:
        second = await asyncio.to_thread(
            subprocess.run,
            [*COMMAND, "-f", str(shim.file), "serve"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert second.returncode == 1
        assert second.stderr.count("\n") == 1
        assert shim.socket in second.stderr
        async with open_channel(shim.socket) as channel:
            assert await unary(channel, "/x.Unknown/Echo", b"still") == b"still"


async def test_a_socket_of_another_program_is_not_stolen(
    runtime: ScriptedRuntime, tmp_path: Path
) -> None:
    """A live socket that holds no lock of ours is refused as well."""
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "shim.sock"))
        other.listen()
        async with serving(tmp_path, runtime.socket_path, wait=False) as shim:
            assert await asyncio.to_thread(shim.wait) == 1
            assert "another process serves it" in shim.log
            assert os.path.exists(shim.socket)


async def test_a_path_that_leads_elsewhere(runtime: ScriptedRuntime, tmp_path: Path) -> None:
    """Systemd's socket file is removed, then another's is there: a start would not mend it, so the
    watchdog is fed, what to do is said once, and clients that are here stay."""
    service = ActivatedService(tmp_path, runtime.socket_path)
    try:
        await asyncio.to_thread(service.start, env={"WATCHDOG_USEC": "300000"})
        async with open_channel(service.socket) as channel:
            assert await unary(channel, "/x.Unknown/Echo", b"1") == b"1"
            os.unlink(service.socket)
            await asyncio.to_thread(service.wait_log, "systemctl restart image-cri-shim.socket")
            await _fed_again(service)
            with socket.socket(socket.AF_UNIX) as other:
                other.bind(service.socket)
                other.listen()
                await _fed_again(service)
            assert await unary(channel, "/x.Unknown/Echo", b"2") == b"2"
        assert service.log.count("systemctl restart") == 1
        assert "does not accept connections" not in service.log
        assert [line for line in service.said if "STATUS=" in line and "systemctl restart" in line]
    finally:
        service.close()


async def test_systemd_listens_at_another_path(runtime: ScriptedRuntime, tmp_path: Path) -> None:
    """As where `shim:` has been changed: clients of both are served, and what to do is said."""
    service = ActivatedService(tmp_path, runtime.socket_path)
    configured = str(tmp_path / "other.sock")
    service.write_config(shim=configured)
    try:
        await asyncio.to_thread(service.start)
        for path in (configured, service.socket):
            async with open_channel(path) as channel:
                assert await unary(channel, "/x.Unknown/Echo", b"1") == b"1"
        [line] = [each for each in service.log.splitlines() if "WARNING" in each]
        assert f"systemd listens at {service.socket}, and the configuration says" in line
        assert f"shim: {configured}" in line
        assert "run image-cri-shim install-service again" in line
    finally:
        service.close()


async def _fed_again(service: ActivatedService) -> None:
    fed = service.said.count("WATCHDOG=1")
    async with asyncio.timeout(10):
        while service.said.count("WATCHDOG=1") < fed + 3:
            await asyncio.sleep(0.05)


async def test_a_process_that_does_not_accept_is_systemds_to_end(
    runtime: ScriptedRuntime, tmp_path: Path
) -> None:
    """With a socket of systemd's as well, whose clients wait in it."""
    service = ActivatedService(tmp_path, runtime.socket_path)
    service.command = service.make_command("deaf", DEAF)
    try:
        await asyncio.to_thread(service.start, env={"WATCHDOG_USEC": "300000"})
        await asyncio.to_thread(service.wait_log, "does not accept connections: timeout")
        assert "WATCHDOG=1" not in service.said
    finally:
        service.close()


async def test_a_stale_socket_file_is_replaced(runtime: ScriptedRuntime, tmp_path: Path) -> None:
    """After kill -9 the next start serves at once."""
    async with serving(tmp_path, runtime.socket_path) as shim:
        shim.kill()
        assert os.path.exists(shim.socket)
        await asyncio.to_thread(shim.start)
        async with open_channel(shim.socket) as channel:
            assert await unary(channel, "/x.Unknown/Echo", b"again") == b"again"


async def test_a_file_in_the_sockets_place_is_left_alone(
    runtime: ScriptedRuntime, tmp_path: Path
) -> None:
    """What is no socket is never removed."""
    (tmp_path / "shim.sock").write_text("precious")
    async with serving(tmp_path, runtime.socket_path, wait=False) as shim:
        assert await asyncio.to_thread(shim.wait) == 1
    assert (tmp_path / "shim.sock").read_text() == "precious"
