"""`status` tells the truth: registries that cannot be used, kubelet, a start that waits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from shimcore.client import admin
from shimcore.client.admin import Condition, Status, endpoint_of, status
from shimcore.pb import cri_pb2
from shimcore.systemd.kubelet_way import KubeletWay, Way
from tests.integration.cli_support import AUTH, PASSWORD, USERS, run, run_on_terminal
from tests.support.registry_puller import RegistryPuller
from tests.support.scripted_registry import ScriptedRegistry
from tests.support.scripted_runtime import ScriptedRuntime
from tests.support.serving import ServeProcess, serving


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[ScriptedRuntime]:
    """A stand-in runtime that pulls from real registries."""
    async with ScriptedRuntime(str(tmp_path / "runtime.sock"), puller=RegistryPuller()) as started:
        yield started


def pull_request(image: str) -> bytes:
    return cri_pb2.PullImageRequest(image=cri_pb2.ImageSpec(image=image)).SerializeToString()


async def _status(shim: ServeProcess) -> Status:
    return await asyncio.to_thread(status, endpoint_of(str(shim.file)))


async def test_a_registry_in_use_is_called_that(runtime: ScriptedRuntime, tmp_path: Path) -> None:
    """Nobody has pulled yet: `status` itself asks, and does not say what it does not know."""
    async with (
        ScriptedRegistry(users=USERS, auth="basic") as hub,
        serving(tmp_path, runtime.socket_path, address=hub.address, auth=AUTH) as shim,
    ):
        found = await _status(shim)
        ran = await run("-f", str(shim.file), "status", "-o", "json")
    assert found.condition is Condition.SERVING
    assert ran.status == 0
    (registry,) = json.loads(ran.out)["registries"]
    assert registry["address"] == hub.address
    assert (registry["state"], registry["usable"]) == ("in use", True)


@pytest.mark.parametrize("key", ["admin", "shim"])
async def test_another_socket_in_the_file_before_a_restart(
    runtime: ScriptedRuntime, tmp_path: Path, key: str
) -> None:
    """The shim that runs is asked where it is, and the file said to count later; not for another
    file, nor once it is gone."""
    async with serving(tmp_path, runtime.socket_path, reloadInterval="1s") as shim:
        shim.write_config(**{key: str(tmp_path / "later.sock")})
        other = tmp_path / "other.yaml"
        other.write_text(shim.file.read_text())
        other.chmod(0o600)
        found = await run("-f", str(shim.file), "status", "-o", "json")
        history = await run("-f", str(shim.file), "history")
        shown = await run("-f", str(shim.file), "config", "show", "-o", "json")
        others = await run("-f", str(other), "status")
        checked = await run("-f", str(shim.file), "doctor")
        assert shim.stop() == 0
        gone = await run("-f", str(shim.file), "status")
    assert (found.status, history.status, others.status, gone.status) == (1, 0, 3, 3)
    assert json.loads(found.out)["shim_socket"] == shim.socket
    assert "has another shim or admin socket by now: admin counts from the next start" in found.err
    assert json.loads(shown.out)["running"]
    assert f"PASS  socket: {shim.socket} answers" in checked.out


async def test_a_wrong_password_is_degraded(runtime: ScriptedRuntime, tmp_path: Path) -> None:
    """Status 1, `login refused`, and no word of the password."""
    async with (
        ScriptedRegistry(users=USERS, auth="basic") as hub,
        serving(tmp_path, runtime.socket_path, address=hub.address, auth=f"x:{PASSWORD}") as shim,
    ):
        ran = await run("-f", str(shim.file), "status")
        table = await run_on_terminal(40, "-f", str(shim.file), "status")
        facts = (await _status(shim)).facts
    assert ran.status == 1
    assert "degraded" in ran.out
    assert "no registry can be used" in ran.out
    assert "login refused for" in ran.out
    assert facts["registries"][0]["state"] == "login refused"
    assert "login refused" in table.plain


async def test_every_registry_down_is_degraded(runtime: ScriptedRuntime, tmp_path: Path) -> None:
    """`down since …, tried again in …`; one that can be used is enough to serve."""
    down = "http://127.0.0.1:9"
    async with (
        ScriptedRegistry() as hub,
        serving(tmp_path, runtime.socket_path, address=down, reloadInterval="1h") as shim,
    ):
        ran = await run("-f", str(shim.file), "status")
        assert ran.status == 1
        assert "down since " in ran.out
        assert "refused the connection" in ran.out
        shim.write_config(registries=[{"address": hub.address}])
        shim.signal(1)
        await asyncio.to_thread(shim.wait_log, "configuration reloaded")
        found = await _status(shim)
    assert found.condition is Condition.SERVING
    assert [one["state"] for one in found.facts["registries"]] == ["down", "in use"]


@pytest.mark.parametrize("columns", [40, 80, 120])
async def test_the_last_failed_pull(runtime: ScriptedRuntime, tmp_path: Path, columns: int) -> None:
    """Its image, each registry's reason; gone when the image has been pulled after all."""
    async with (
        ScriptedRegistry() as hub,
        serving(
            tmp_path,
            runtime.socket_path,
            address=hub.address,
            fallback="deny",
            negativeCacheTTL="10ms",
        ) as shim,
        grpc.aio.insecure_channel(f"unix:{shim.socket}") as channel,
    ):
        pull: Any = channel.unary_unary("/runtime.v1.ImageService/PullImage")
        with pytest.raises(grpc.aio.AioRpcError):
            await pull(pull_request("web:v1"))
        failed = (await _status(shim)).facts["last_failed_pull"]
        shown = await run_on_terminal(columns, "-f", str(shim.file), "status")
        hub.add_image("library/web", "v1")
        await asyncio.sleep(0.05)
        await pull(pull_request("web:v1"))
        # A pull is noted after its answer, when its bytes have been counted.
        async with asyncio.timeout(10):
            while (await _status(shim)).facts["last_failed_pull"] is not None:
                await asyncio.sleep(0.02)
    assert failed["image"] == "web:v1"
    assert failed["code"] == 5
    assert failed["registries"][0]["outcome"] == "absent"
    assert "last failed pull" in shown.plain
    assert f"{hub.host} absent" in shown.plain


async def test_a_start_that_waits_says_for_what(tmp_path: Path) -> None:
    """The admin socket answers from the first moment on; `config show` shows the file."""
    socket = tmp_path / "none.sock"
    async with serving(tmp_path, socket, wait=False) as shim:
        await asyncio.to_thread(shim.wait_log, "waiting for the container runtime")
        ran = await run("-f", str(shim.file), "status")
        told = json.loads((await run("-f", str(shim.file), "status", "-o", "json")).out)
        config = await run("-f", str(shim.file), "config", "show")
        history = await run("-f", str(shim.file), "status", "-o", "json")
        assert await asyncio.to_thread(shim.stop) == 0
    assert ran.status == 1
    assert f"starting: waiting for {socket}" in ran.out
    assert told["starting"] == f"waiting for {socket}"
    assert not told["serving"]
    assert config.status == 0
    assert history.status == 1


@pytest.mark.parametrize(
    ("way", "sandboxes", "condition"),
    [
        (Way.WIRED, False, Condition.SERVING),
        (Way.NOT_WIRED, False, Condition.DEGRADED),
        (Way.NOT_WIRED, True, Condition.DEGRADED),
        (Way.NO_KUBELET, False, Condition.SERVING),
        (Way.UNKNOWN, False, Condition.SERVING),
    ],
)
async def test_a_kubelet_that_goes_past_the_shim(
    runtime: ScriptedRuntime,
    tmp_path: Path,
    way: Way,
    sandboxes: bool,
    condition: Condition,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Degraded with the mend only where it is known not to be wired."""
    found = KubeletWay(way, "unix:///run/containerd/containerd.sock", sandboxes_alone=sandboxes)
    monkeypatch.setattr(admin, "kubelet_way", lambda *_: found)
    async with (
        ScriptedRegistry() as hub,
        serving(tmp_path, runtime.socket_path, address=hub.address) as shim,
    ):
        told = await _status(shim)
    assert told.condition is condition
    assert told.facts["kubelet"]["state"] == way.value
    if way is Way.NOT_WIRED:
        mend = f"image-cri-shim install-service --wire-kubelet --now -f {shim.file} mends it"
        assert told.detail[0].endswith(mend)
        assert ("its sandboxes come here, its images do not" in told.detail[0]) == sandboxes
