"""Metrics as Prometheus reads them from the running `serve`."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from prometheus_client.parser import text_string_to_metric_families

from shimcore.client.admin import endpoint_of
from shimcore.client.handover import HandOverFailedError, RunningService
from tests.support import raw
from tests.support.activation import ActivatedService
from tests.support.cri import pull_request
from tests.support.registry_puller import RegistryPuller
from tests.support.scripted_registry import ScriptedRegistry
from tests.support.scripted_runtime import ScriptedRuntime
from tests.support.serving import ServeProcess, serving

PULL = "/runtime.v1.ImageService/PullImage"
Samples = dict[tuple[str, frozenset[str]], float]


@pytest.fixture
def port() -> Iterator[int]:
    """One that nobody listens on; it is held, so that nobody else is given it meanwhile."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


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
async def runtime(tmp_path: Path) -> AsyncIterator[ScriptedRuntime]:
    """A stand-in runtime that pulls from real registries."""
    async with ScriptedRuntime(str(tmp_path / "runtime.sock"), puller=RegistryPuller()) as started:
        yield started


async def test_calls_pulls_and_registries_are_counted(
    runtime: ScriptedRuntime, tmp_path: Path, port: int
) -> None:
    """Method, code, registry and outcome are there; image names and secrets are not."""
    async with ScriptedRegistry(users={"admin": "hub-s3cret"}, auth="basic") as hub:
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
    assert samples["image_cri_shim_registry_state", frozenset((hub.host, "in_use"))] == 1
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
    await pull(pull_request("secretive:v1"))
    with pytest.raises(grpc.aio.AioRpcError):
        await pull(pull_request("secretive:none"))


async def _reload(shim: ServeProcess) -> None:
    shim.write_config(debug=True, reloadInterval="1h")
    shim.signal(1)
    await asyncio.to_thread(shim.wait_log, "configuration reloaded")


async def test_an_address_in_use_keeps_no_image_from_a_node(
    runtime: ScriptedRuntime, tmp_path: Path
) -> None:
    """One line names the address; all else is served, and metrics once it can be had."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with serving(tmp_path, runtime.socket_path, metrics=str(port)) as shim:
            assert shim.log.count(f"metrics address 127.0.0.1:{port}: Address already in use") == 1
            taken.close()
            await asyncio.to_thread(shim.wait_log, f"metrics at http://127.0.0.1:{port}/metrics")
            assert "image_cri_shim_info" in await asyncio.to_thread(_scrape, port)


async def test_a_hub_that_hangs_keeps_no_scrape(
    runtime: ScriptedRuntime, tmp_path: Path, port: int
) -> None:
    """Each answers at once, and soon one tells that the hub is down."""
    async with ScriptedRegistry() as hub:
        hub.faults.hang = lambda _: True
        settings: dict[str, Any] = {"address": hub.address, "probeTimeout": "2s"}
        async with serving(tmp_path, runtime.socket_path, metrics=str(port), **settings):
            down = "image_cri_shim_registry_state", frozenset((hub.host, "down"))
            began = time.monotonic()
            while not _samples(await asyncio.to_thread(_timed_scrape, port))[down]:
                assert time.monotonic() - began < 20
                await asyncio.sleep(0.2)


def _timed_scrape(port: int) -> str:
    began = time.monotonic()
    text = _scrape(port)
    assert time.monotonic() - began < 2
    return text


async def test_a_runtime_that_is_away_is_seen(
    runtime: ScriptedRuntime, tmp_path: Path, port: int
) -> None:
    """By the gauge that the alert asks, and by the calls that were refused meanwhile."""
    ready: tuple[str, frozenset[str]] = ("image_cri_shim_runtime_ready", frozenset())
    refused = "image_cri_shim_calls_total", frozenset(("other", "UNAVAILABLE"))
    async with (
        serving(tmp_path, runtime.socket_path, metrics=str(port)) as shim,
        grpc.aio.insecure_channel(f"unix:{shim.socket}") as channel,
    ):
        assert await _until(port, ready, 1)
        await runtime.stop()
        echo: Any = channel.unary_unary("/x.Unknown/Echo")
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError) as away:
                await echo(b"", timeout=10)
            assert away.value.code() is grpc.StatusCode.UNAVAILABLE
        assert (await _until(port, ready, 0))[refused] in {2, 3}  # the first may have begun before
        assert shim.log.count("; calls are answered UNAVAILABLE") == 1


async def test_a_client_that_dies_has_cancelled_its_call(
    runtime: ScriptedRuntime, tmp_path: Path, port: int
) -> None:
    """Whatever the runtime says to it then: nobody hears it, and the runtime is there."""
    asked = asyncio.Event()

    async def hangs(_: bytes) -> bytes:
        asked.set()
        await asyncio.sleep(60)
        return b""

    method = "runtime.v1.RuntimeService/ListPodSandbox"
    async with serving(tmp_path, runtime.socket_path, metrics=str(port)) as shim:
        runtime.overrides[f"/{method}"] = hangs
        async with raw.connected(shim.socket) as client:
            await raw.send(client, raw.opening() + raw.call(1, f"/{method}", b""))
            async with asyncio.timeout(10):
                await asked.wait()
        counted = "image_cri_shim_calls_total", frozenset((method, "CANCELLED"))
        assert await _until(port, counted, 1)


async def _until(port: int, sample: tuple[str, frozenset[str]], value: float) -> Samples:
    """What is told once that sample has that value."""
    deadline = time.monotonic() + 20
    while True:
        samples = _samples(await asyncio.to_thread(_scrape, port))
        if samples.get(sample) == value:
            return samples
        assert time.monotonic() < deadline, (sample, samples.get(sample))
        await asyncio.sleep(0.2)


# It ends when its predecessor has left.
DIES = """
import shimcore.daemon.front as front
async def no(*_): raise SystemExit(3)
front.Front.start = no
"""


async def test_a_hand_over_that_fails_loses_no_call(
    runtime: ScriptedRuntime, tmp_path: Path, port: int
) -> None:
    """Those of the connections before it are counted on, in the same counters."""
    service = ActivatedService(tmp_path, runtime.socket_path, metrics=str(port))
    counter = "image_cri_shim_calls_total", frozenset(("x.Unknown/Echo", "OK"))
    try:
        await asyncio.to_thread(service.start)
        async with grpc.aio.insecure_channel(f"unix:{service.socket}") as channel:
            echo: Any = channel.unary_unary("/x.Unknown/Echo")
            await echo(b"before")
            assert _samples(await asyncio.to_thread(_scrape, port))[counter] == 1
            running = RunningService(
                endpoint_of(str(service.file)), service.make_command("dies", DIES)
            )
            with pytest.raises(HandOverFailedError):
                await asyncio.to_thread(running.hand_over)
            await echo(b"after")
            assert _samples(await asyncio.to_thread(_scrape, port))[counter] == 2
    finally:
        service.close()


def _exchange(port: int, request: bytes) -> bytes:
    """What the server says to these bytes until it closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(request)
        answer = b""
        try:
            while chunk := client.recv(65_536):
                answer += chunk
        except ConnectionResetError:
            pass
    return answer


async def test_the_http_of_it(runtime: ScriptedRuntime, tmp_path: Path, port: int) -> None:
    """GET and HEAD of /metrics; everything else has its status, and nothing is kept open."""
    expected = {
        b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n": 200,
        b"GET /metrics?name[]=x HTTP/1.0\r\n\r\n": 200,
        b"HEAD /metrics HTTP/1.1\r\nHost: h\r\n\r\n": 200,
        b"GET http://h:9464/metrics HTTP/1.1\r\nHost: h:9464\r\n\r\n": 200,  # RFC 9112 3.2.2
        b"GET http://h/other HTTP/1.1\r\nHost: h\r\n\r\n": 404,
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\n": 404,
        b"GET /../etc/passwd HTTP/1.1\r\nHost: h\r\n\r\n": 404,
        b"POST /metrics HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nnine byte": 405,
        b"\x16\x03\x01\x02\r\n\r\n": 400,
        b"GET /metrics HTTP/2.0\r\n\r\n": 400,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": 400,
        b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 100_000: 431,
    }
    async with serving(tmp_path, runtime.socket_path, metrics=str(port)) as shim:
        for request, status in expected.items():
            answer = await asyncio.to_thread(_exchange, port, request)
            assert answer.startswith(b"HTTP/1.1 %d " % status), (request[:50], answer[:200])
            head, body = answer.split(b"\r\n\r\n", 1)
            assert b"\r\nConnection: close" in head
            if request.startswith(b"HEAD"):
                assert body == b""
            elif status == 200:
                assert b"Content-Length: %d\r\n" % len(body) in head
                assert b"Content-Type: text/plain; version=" in head
        assert "Traceback" not in shim.log


async def test_idle_connections_stop_nothing(
    runtime: ScriptedRuntime, tmp_path: Path, port: int
) -> None:
    """1,000 that say nothing: no thread for them, few descriptors, CRI and a scrape answer."""
    async with (
        serving(tmp_path, runtime.socket_path, metrics=str(port)) as shim,
        grpc.aio.insecure_channel(f"unix:{shim.socket}") as channel,
    ):
        version: Any = channel.unary_unary("/runtime.v1.RuntimeService/Version")
        await version(b"", timeout=10)
        assert shim.process is not None
        status = Path(f"/proc/{shim.process.pid}/status")
        threads = _threads(status)
        idle: list[socket.socket] = []
        took = []
        try:
            for _ in range(50):
                idle += await asyncio.to_thread(_connect, port, 20)
                began = time.monotonic()
                await version(b"", timeout=10)
                took.append(time.monotonic() - began)
            samples = _samples(await asyncio.to_thread(_scrape, port))
            assert samples["image_cri_shim_connections_open", frozenset(())] >= 1
            assert _threads(status) <= threads + 2
            assert len(list(Path(f"/proc/{shim.process.pid}/fd").iterdir())) < 150
        finally:
            for client in idle:
                client.close()
        took.sort()
        print(f"Version: median {took[25] * 1e3:.1f} ms, longest {took[-1] * 1e3:.1f} ms")
        assert took[-1] < 2


def _connect(port: int, number: int) -> list[socket.socket]:
    return [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(number)]


def _threads(status: Path) -> int:
    return int(re.findall(r"Threads:\s+(\d+)", status.read_text())[0])


async def test_scraping_without_a_pause(
    runtime: ScriptedRuntime, tmp_path: Path, port: int
) -> None:
    """While images come into the caches and leave them: every scrape is whole, calls answer."""
    async with (
        ScriptedRegistry() as hub,
        serving(
            tmp_path,
            runtime.socket_path,
            address=hub.address,
            metrics=str(port),
            negativeCacheTTL="30ms",
            fallback="deny",
        ) as shim,
        grpc.aio.insecure_channel(f"unix:{shim.socket}") as channel,
    ):
        stop = asyncio.Event()
        scrapers = [asyncio.create_task(_scrape_on(port, stop)) for _ in range(4)]
        took = []
        version: Any = channel.unary_unary("/runtime.v1.RuntimeService/Version")
        pull: Any = channel.unary_unary(PULL)
        for number in range(300):
            with contextlib.suppress(grpc.aio.AioRpcError):
                await pull(pull_request(f"none:{number}"), timeout=10)
            began = time.monotonic()
            await version(b"", timeout=10)
            took.append(time.monotonic() - began)
        stop.set()
        texts = [text for scraper in scrapers for text in await scraper]
        took.sort()
        print(f"{len(texts)} scrapes; Version p99 {took[297] * 1e3:.1f} ms")
        assert len(texts) > 20
        assert all("process_resident_memory_bytes" in text for text in texts)
        assert took[-1] < 2
        assert "Error" not in shim.log


async def _scrape_on(port: int, stop: asyncio.Event) -> list[str]:
    texts = []
    while not stop.is_set():
        texts.append(await asyncio.to_thread(_scrape, port))
    return texts
