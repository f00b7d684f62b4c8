"""Metrics never stop a start."""

from __future__ import annotations

import _thread
import asyncio
import re
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from unittest import mock

import pytest
from prometheus_client import CollectorRegistry

from shimcore.cluster.documents import ClusterPart, Document, Kind
from shimcore.cluster.starting import begin
from shimcore.cluster.watch import Condition, Follower, WatchStatus
from shimcore.daemon import metrics
from shimcore.daemon.metrics import CallMetrics, MetricsServer, ShimCollector
from shimcore.daemon.shim import Shim
from tests.support.polling import until


@pytest.fixture
async def shim(tmp_path: Path) -> AsyncIterator[Shim]:
    path = tmp_path / "c.yaml"
    path.write_text(f"address: http://h.example\nstateDir: {tmp_path}/state\n")
    made = Shim(str(path), begin(str(path)), str(tmp_path / "none.sock"))
    yield made
    await made.generations.close(1)
    await made.runtime.aclose()


def _clusters(shim: Shim) -> dict[str, float]:
    """What is told of the cluster's part."""
    families = ShimCollector(shim, lambda: 0).collect()
    start = "image_cri_shim_cluster_"
    return {
        sample.name.removeprefix(start): sample.value
        for family in families
        for sample in family.samples
        if sample.name.startswith(start)
    }


async def test_documents_of_the_cluster_that_are_refused(shim: Shim, tmp_path: Path) -> None:
    """As long as they are; so is a login in one that stands alone, but not one in the file. A node
    without a part from the cluster tells nothing of it."""
    assert _clusters(shim) == {}
    path = tmp_path / "c.yaml"
    lone = "registries: [{address: '', auth: 'u:p'}]\n"
    path.write_text(f"{path.read_text()}{lone}kubernetes: {{enabled: true}}\n")
    assert await shim.reload(forced=True)
    assert _clusters(shim) == {"config_valid": 1, "watching": 0}
    source = shim.config.kubernetes
    for text, valid in ("registris: []", 0), ("timeout: 5m", 1), ("auth: u:p", 0):
        await shim.put_cluster(ClusterPart(source, {Kind.SECRET: Document(text, "1")}))
        assert _clusters(shim)["config_valid"] == valid, text
    follower = shim.cluster.follower = Follower(source, None, mock.AsyncMock())
    for condition in Condition:
        follower.status = WatchStatus(condition, "", 0)
        assert _clusters(shim)["watching"] == (condition is Condition.WATCHING)


async def test_a_host_that_no_resolver_takes(shim: Shim, caplog: pytest.LogCaptureFixture) -> None:
    """One line, whatever the configuration's check has let through."""
    server = MetricsServer(shim, "node..local:0", lambda: 0)
    await server.open()
    async with asyncio.timeout(5):
        while not caplog.records:
            await asyncio.sleep(0.01)
    server.close()
    [record] = caplog.records
    assert re.match(r"metrics address node\.\.local:0: .*'idna' codec", record.getMessage())


async def test_a_moment_without_threads(
    shim: Shim, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are there once a thread can be had."""
    caplog.set_level("INFO")
    monkeypatch.setattr(metrics, "_AGAIN_S", 0.02)
    server = MetricsServer(shim, "localhost:0", lambda: 0)
    refused = RuntimeError("can't start new thread")
    with mock.patch.object(_thread, "start_new_thread", side_effect=refused):
        await server.open()
        await asyncio.sleep(0.1)
    async with asyncio.timeout(5):
        while "metrics at http://localhost:0" not in caplog.text:
            await asyncio.sleep(0.01)
    server.close()
    assert caplog.text.count("can't start new thread; there are no metrics until") == 1


async def test_a_name_whose_lookup_takes_long(
    shim: Shim, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing waits for it, which is told once; then there are metrics."""
    caplog.set_level("INFO")
    monkeypatch.setattr(metrics, "_SLOW_S", 0.02)
    monkeypatch.setattr(metrics, "_LOOKUP_S", 0.02)
    monkeypatch.setattr(metrics, "_AGAIN_S", 0.02)
    go_on = threading.Event()
    address = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))

    def look_up(host: str, *_: object, **__: object) -> list[object]:
        if host == "node1":
            go_on.wait(10)
        return [address]

    server = MetricsServer(shim, "node1:0", lambda: 0)
    with mock.patch.object(socket, "getaddrinfo", look_up):
        async with asyncio.timeout(1):
            await server.open()
        await until(lambda: len(caplog.records) >= 2, lambda: caplog.text)
        await asyncio.sleep(0.1)
        slow, late = (record.getMessage() for record in caplog.records)
        go_on.set()
        async with asyncio.timeout(5):
            while "metrics at http://node1:0" not in caplog.text:
                await asyncio.sleep(0.01)
    server.close()
    assert slow == "metrics address node1:0: its name is being looked up"
    assert late.startswith("metrics address node1:0: the name node1 was not looked up in time: ")


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="needs both families")
@pytest.mark.parametrize("address", ["[::]:0", "[0:0:0:0:0:0:0:0]:0"])
async def test_every_address(shim: Shim, address: str) -> None:
    """Of both families, as Go listens there; there is a socket when `open` is done."""
    server = MetricsServer(shim, address, lambda: 0)
    await server.open()
    port = server._socket.getsockname()[1]
    for host in ("127.0.0.1", "::1"):
        socket.create_connection((host, port), 5).close()
    server.close()


def test_a_watch_that_ends_is_no_slow_call() -> None:
    """The relay's own endless streams are not among the calls whose seconds are told."""
    registry = CollectorRegistry()
    calls = CallMetrics(registry)
    for name in ("Watch", "Subscribe", "GetContainerEvents", "Version"):
        calls.ended(f"/x/{name}".encode(), 0, 5.0)
    seconds = {
        sample.labels["method"]
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "image_cri_shim_call_seconds_count"
    }
    assert seconds == {"x/Version"}


def test_no_invented_name_takes_an_image_calls_place() -> None:
    """A client may call anything, and long before the first pull."""
    registry = CollectorRegistry()
    calls = CallMetrics(registry)
    for number in range(1000):
        calls.ended(b"/x/%d" % number, 12, 0.0)
    calls.ended(b"/runtime.v1.ImageService/PullImage", 0, 1.0)
    pulls = {"method": "runtime.v1.ImageService/PullImage", "code": "OK"}
    assert registry.get_sample_value("image_cri_shim_calls_total", pulls) == 1
    others = {"method": "other", "code": "UNIMPLEMENTED"}
    assert 870 < (registry.get_sample_value("image_cri_shim_calls_total", others) or 0) < 1000
