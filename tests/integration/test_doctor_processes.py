"""Faults of real processes: another one at the socket, a second shim, a proxy in the shim's way."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cli_support import AUTH, USERS, run
from tests.support.mending import read_mend
from tests.support.registry_puller import RegistryPuller
from tests.support.scripted_registry import ScriptedRegistry
from tests.support.scripted_runtime import ScriptedRuntime
from tests.support.serving import ServeProcess, serving, wait_for

OTHER = """\
import asyncio, sys
from tests.support.scripted_runtime import ScriptedRuntime

async def main():
    async with ScriptedRuntime(sys.argv[1]):
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[ScriptedRuntime]:
    """One that pulls."""
    async with ScriptedRuntime(str(tmp_path / "runtime.sock"), puller=RegistryPuller()) as made:
        yield made


async def doctor(file: Path) -> dict[str, dict[str, Any]]:
    """What it finds, by the names of its checks."""
    ran = await run("-f", str(file), "doctor", "-o", "json")
    return {one["check"]: one for one in json.loads(ran.out)}


async def test_another_process_at_the_socket(tmp_path: Path, runtime: ScriptedRuntime) -> None:
    """It has taken the socket's path: named with its number; the mend, followed, mends it."""
    async with serving(tmp_path, runtime.socket_path) as shim:
        Path(shim.socket).unlink()
        other = subprocess.Popen([sys.executable, "-c", OTHER, shim.socket])
        try:
            await asyncio.to_thread(wait_for, shim.accepts, 20, lambda: "nobody listens")
            found = (await doctor(shim.file))["socket"]
            assert found["result"] == "FAIL"
            assert f"served by another process than the shim ({other.pid}: " in found["detail"]
            end, _, restart = found["mend"].partition(" && ")
            subprocess.run(["sh", "-c", end], check=True)
            assert restart.startswith("systemctl restart image-cri-shim")
            assert await asyncio.to_thread(other.wait, 10) == -signal.SIGTERM
        finally:
            other.kill()
            other.wait()
        await asyncio.to_thread(shim.stop)
        await asyncio.to_thread(shim.start)
        assert (await doctor(shim.file))["socket"]["result"] == "PASS"


async def test_a_second_shim(tmp_path: Path, runtime: ScriptedRuntime) -> None:
    """It does not start beside the first, which doctor says to whoever asks by its file."""
    async with serving(tmp_path, runtime.socket_path) as first:
        folder = tmp_path / "second"
        folder.mkdir()
        keys = {"shim": first.socket, "stateDir": str(folder / "state")}
        second = ServeProcess(folder, runtime.socket_path, **keys)
        second.start(wait=False)
        assert await asyncio.to_thread(second.wait) == 1
        assert "another image-cri-shim serves it" in second.log
        found = (await doctor(second.file))["socket"]
        assert found["result"] == "FAIL"
        assert str(first.file) in found["detail"]
        command = shlex.split(read_mend(found["mend"]).command)
        assert "PASS  socket: " in (await run(*command[1:])).out


async def test_a_proxy_in_the_way(tmp_path: Path) -> None:
    """The shim's own environment has one that is dead; what the mend writes leaves the hub out."""
    async with ScriptedRegistry(_address(), users=USERS, auth="basic") as hub:
        hub.add_image("library/web", "v1")
        puller = RegistryPuller({hub.host: hub.address})
        runtime = ScriptedRuntime(str(tmp_path / "runtime.sock"), puller=puller)
        await runtime.start()
        keys = {"address": hub.address, "auth": AUTH, "fallback": "deny"}
        shim = ServeProcess(tmp_path, runtime.socket_path, **keys)
        try:
            await asyncio.to_thread(shim.start, env={"HTTP_PROXY": "http://127.0.0.1:9"})
            await run("-f", str(shim.file), "pull", "web:v1")
            found = (await doctor(shim.file))[f"registry {hub.address}"]
            assert found["result"] == "FAIL"
            assert "answers here, but to the shim it is down" in found["detail"]
            written = re.search(r'Environment="(NO_PROXY)=([^"]+)"', found["mend"])
            assert written
            await asyncio.to_thread(shim.stop)
            environ = {"HTTP_PROXY": "http://127.0.0.1:9", written[1]: written[2]}
            await asyncio.to_thread(shim.start, env=environ)
            assert (await run("-f", str(shim.file), "pull", "web:v1")).status == 0
            assert (await doctor(shim.file))[f"registry {hub.address}"]["result"] == "PASS"
        finally:
            shim.kill()
            await runtime.stop()


def _address() -> str:
    """One of this machine's that is no loopback address: proxies do not count for those."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has a loopback address only")
        return str(probe.getsockname()[0])
