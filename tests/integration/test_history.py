"""`history`: what the running shim remembers of image calls, as an operator sees it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from shimcore.client import admin
from shimcore.client.admin import History, endpoint_of
from shimcore.pb import cri_pb2
from tests.integration.cli_support import begun, run, run_on_terminal
from tests.support.registry_puller import RegistryPuller
from tests.support.scripted_registry import ScriptedRegistry
from tests.support.scripted_runtime import ScriptedRuntime
from tests.support.serving import ServeProcess, serving

DOWN = "http://127.0.0.1:9"
IMAGES = "/runtime.v1.ImageService/"


@pytest.fixture
async def shim(tmp_path: Path) -> AsyncIterator[ServeProcess]:
    """One with a registry that is down, and a hub after it that has `web:v1` alone."""
    runtime = ScriptedRuntime(str(tmp_path / "runtime.sock"), puller=RegistryPuller())
    async with runtime, ScriptedRegistry() as hub:
        hub.add_image("library/web", "v1")
        more = [{"address": hub.address}]
        async with serving(
            tmp_path, runtime.socket_path, address=DOWN, registries=more, fallback="deny"
        ) as process:
            yield process


async def _pull(shim: ServeProcess, image: str, pod: str = "") -> bool:
    request = cri_pb2.PullImageRequest(image=cri_pb2.ImageSpec(image=image))
    if pod:
        request.sandbox_config.metadata.namespace, request.sandbox_config.metadata.name = "web", pod
    return await _call(shim, "PullImage", request.SerializeToString())


async def _remembered(shim: ServeProcess, calls: int) -> History:
    """What it remembers once it has `calls`: a pull is told after its answer."""
    endpoint = endpoint_of(str(shim.file))
    deadline = time.monotonic() + 20
    while True:
        told = await asyncio.to_thread(admin.history, endpoint)
        if told is not None and told.last >= calls:
            return told
        assert time.monotonic() < deadline, f"it remembers less than {calls} calls: {told}"
        await asyncio.sleep(0.05)


async def _call(shim: ServeProcess, method: str, request: bytes) -> bool:
    """Whether it ended well."""
    async with grpc.aio.insecure_channel(f"unix:{shim.socket}") as channel:
        call: Any = channel.unary_unary(f"{IMAGES}{method}")
        try:
            await call(request, timeout=20)
        except grpc.aio.AioRpcError:
            return False
        return True


async def _history(shim: ServeProcess, *words: str) -> list[dict[str, Any]]:
    ran = await run("-f", str(shim.file), "history", "-o", "json", *words)
    assert ran.status == 0, ran.err
    calls: list[dict[str, Any]] = json.loads(ran.out)["calls"]
    return calls


async def test_a_pull_and_each_registry_of_it(shim: ServeProcess) -> None:
    """Who was passed over and why, who served, bytes and seconds, and for which pod."""
    assert await _pull(shim, "web:v1", pod="front-1")
    await _remembered(shim, 1)
    (call,) = await _history(shim)
    assert (call["call"], call["image"], call["pod"]) == ("PullImage", "web:v1", "web/front-1")
    assert (call["outcome"], call["registry"]) == ("pulled", call["registries"][1]["registry"])
    assert [one["outcome"] for one in call["registries"]] == ["unreachable", "pulled"]
    assert "refused the connection" in call["registries"][0]["detail"]


async def test_what_is_asked_for_alone(shim: ServeProcess) -> None:
    """--failed, --image, --pod; an absent image is told, and is no failure."""
    assert await _pull(shim, "web:v1", pod="front-1")
    assert not await _pull(shim, "web:v2", pod="back-1")
    absent = cri_pb2.ImageStatusRequest(image=cri_pb2.ImageSpec(image="never:v1"))
    assert await _call(shim, "ImageStatus", absent.SerializeToString())
    await _remembered(shim, 3)
    told = {(call["call"], call["image"], call["outcome"]) for call in await _history(shim)}
    assert told == {
        ("PullImage", "web:v1", "pulled"),
        ("PullImage", "web:v2", "failed"),
        ("ImageStatus", "never:v1", "absent"),
    }
    assert [call["image"] for call in await _history(shim, "--failed")] == ["web:v2"]
    assert [call["image"] for call in await _history(shim, "--pod", "front")] == ["web:v1"]
    assert [call["image"] for call in await _history(shim, "--image", "never")] == ["never:v1"]
    (failed,) = await _history(shim, "--failed")
    assert {one["outcome"] for one in failed["registries"]} == {"unreachable", "absent"}
    nothing = await run("-f", str(shim.file), "history", "--image", "other")
    assert (nothing.status, nothing.out) == (0, "no such image call is remembered\n")


async def test_it_survives_a_reload(shim: ServeProcess) -> None:
    """Another configuration is no other memory."""
    assert await _pull(shim, "web:v1")
    await _remembered(shim, 1)
    shim.write_config(debug=True, reloadInterval="1h")
    shim.signal(1)
    await asyncio.to_thread(shim.wait_log, "configuration reloaded")
    assert len(await _history(shim)) == 1


async def test_following(shim: ServeProcess) -> None:
    """What ends later comes by itself, a JSON object a line; a shim that stops ends it with 3."""
    async with begun("-f", str(shim.file), "history", "-F", "-o", "json") as process:
        assert process.stdout is not None
        assert await _pull(shim, "web:v1")
        first = json.loads(await asyncio.wait_for(process.stdout.readline(), 20))
        assert not await _pull(shim, "web:v3")
        second = json.loads(await asyncio.wait_for(process.stdout.readline(), 20))
        assert (first["image"], second["image"]) == ("web:v1", "web:v3")
        assert await asyncio.to_thread(shim.stop) == 0
        _, err = await asyncio.wait_for(process.communicate(), 20)
    assert (process.returncode, err) == (3, b"image-cri-shim: the shim has stopped\n")


async def test_another_process_is_another(shim: ServeProcess) -> None:
    """Which counts its calls anew: they are all told to who follows."""
    assert await _pull(shim, "web:v1")
    endpoint = endpoint_of(str(shim.file))
    before = await _remembered(shim, 1)
    assert await asyncio.to_thread(admin.history, endpoint, before) == replace(before, calls=[])
    assert await asyncio.to_thread(shim.stop) == 0
    await asyncio.to_thread(shim.start)
    for _ in range(2):
        assert await _pull(shim, "web:v1")
    await _remembered(shim, 2)
    now = await asyncio.to_thread(admin.history, endpoint, before)
    assert now is not None
    assert (now.last, len(now.calls)) == (2, 2)
    assert now.process != before.process


async def test_without_a_shim(tmp_path: Path) -> None:
    """Status 3 and one line."""
    process = ServeProcess(tmp_path, tmp_path / "runtime.sock")
    ran = await run("-f", str(process.file), "history")
    assert ran.status == 3
    assert ran.error_lines == [
        f"image-cri-shim: no shim is running at {process.socket}; "
        f"see image-cri-shim status -f {process.file}"
    ]


@pytest.mark.parametrize("columns", [40, 80, 120])
async def test_screens(shim: ServeProcess, columns: int) -> None:
    """Nothing is cut: image, pod and each registry's reason are there at any width."""
    assert not await _pull(shim, "web:v2", pod="back-1")
    ran = await run_on_terminal(columns, "-f", str(shim.file), "history")
    assert ran.status == 0
    words = " ".join(ran.plain.split())
    for text in ("failed", "web:v2", "web/back-1", "unreachable", "absent"):
        assert text in words, ran.plain
    print(ran.plain)
