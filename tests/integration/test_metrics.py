"""Metrics as Prometheus reads them from the running `serve`."""

from __future__ import annotations

import asyncio
import socket
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from prometheus_client.parser import text_string_to_metric_families

from shimcore.demo.registry import DemoRegistry
from shimcore.demo.runtime import RegistryPuller, StandInRuntime
from shimcore.pb import cri_pb2
from tests.support.serving import ServeProcess, serving

PULL = "/runtime.v1.ImageService/PullImage"
Samples = dict[tuple[str, frozenset[str]], float]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def _samples(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[StandInRuntime]:
    """A stand-in runtime that pulls from real registries."""
    async with StandInRuntime(str(tmp_path / "runtime.sock"), puller=RegistryPuller()) as started:
        yield started


async def test_calls_pulls_and_registries_are_counted(
    runtime: StandInRuntime, tmp_path: Path
) -> None:
    """Method, code, registry and outcome are there; image names and secrets are not."""
    port = _free_port()
    async with DemoRegistry(users={"admin": "hub-s3cret"}, auth="basic") as hub:
        hub.add_image("library/secretive", "v1")
        async with (
            serving(
                tmp_path,
                runtime.socket_path,
                address=hub.address,
                auth="admin:hub-s3cret",
                metrics=str(port),
                fallback="deny",
            ) as shim,
            grpc.aio.insecure_channel(f"unix:{shim.socket}") as channel,
        ):
            await _drive(channel)
            text = await asyncio.to_thread(_scrape, port)
            await _reload(shim)
            later = _samples(await asyncio.to_thread(_scrape, port))
    samples = _samples(text)
    echo, pull = "x.Unknown/Echo", PULL.lstrip("/")
    assert samples["image_cri_shim_calls_total", frozenset((echo, "OK"))] == 3
    assert samples["image_cri_shim_calls_total", frozenset((pull, "OK"))] == 1
    assert samples["image_cri_shim_calls_total", frozenset((pull, "NOT_FOUND"))] == 1
    assert (
        samples["image_cri_shim_calls_total", frozenset(("x.Unknown/Missing", "UNIMPLEMENTED"))]
        == 1
    )
    assert samples["image_cri_shim_call_seconds_count", frozenset((echo,))] == 3
    assert samples["image_cri_shim_pull_seconds_count", frozenset(("OK",))] == 1
    assert samples["image_cri_shim_pulls_in_flight", frozenset(())] == 0
    assert samples["image_cri_shim_rewrites_total", frozenset((hub.host, "pulled"))] == 1
    assert samples["image_cri_shim_registry_state", frozenset((hub.host, "closed"))] == 1
    assert samples["image_cri_shim_config_generation", frozenset(())] == 1
    assert samples["image_cri_shim_connections_open", frozenset(())] == 1
    assert later["image_cri_shim_config_generation", frozenset(())] == 2
    assert "secretive" not in text
    assert "s3cret" not in text


async def _drive(channel: grpc.aio.Channel) -> None:
    echo: Any = channel.unary_unary("/x.Unknown/Echo")
    for _ in range(3):
        await echo(b"x")
    missing: Any = channel.unary_unary("/x.Unknown/Missing")
    with pytest.raises(grpc.aio.AioRpcError):
        await missing(b"")
    pull: Any = channel.unary_unary(PULL)
    await pull(_pull_request("secretive:v1"))
    with pytest.raises(grpc.aio.AioRpcError):
        await pull(_pull_request("secretive:none"))


def _pull_request(image: str) -> bytes:
    return cri_pb2.PullImageRequest(image=cri_pb2.ImageSpec(image=image)).SerializeToString()


async def _reload(shim: ServeProcess) -> None:
    shim.write_config(debug=True, reloadInterval="1h")
    shim.signal(1)
    await asyncio.to_thread(shim.wait_log, "configuration reloaded")


async def test_an_address_in_use_is_one_line_and_status_1(
    runtime: StandInRuntime, tmp_path: Path
) -> None:
    """The line names the address; nothing is served."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with serving(tmp_path, runtime.socket_path, wait=False, metrics=str(port)) as shim:
            assert await asyncio.to_thread(shim.wait) == 1
            assert f"metrics address 127.0.0.1:{port}" in shim.log
            assert "Traceback" not in shim.log
