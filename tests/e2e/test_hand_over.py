"""An upgrade without a gap on a real containerd: a long pull, a watch, and crictl all the while."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from shimcore.client.admin import endpoint_of
from shimcore.client.handover import RunningService
from tests.e2e.conftest import HUB_LOGIN, Shims, on_node
from tests.e2e.support import images
from tests.e2e.support.containerd import Containerd
from tests.e2e.support.cri_client import CriClient, channel
from tests.e2e.support.crictl import Crictl
from tests.e2e.support.process import wait_for
from tests.e2e.support.recorder import Pace, Recorder
from tests.e2e.support.registry import Registry
from tests.e2e.support.shim import COMMAND
from tests.support.activation import ActivatedService, alive, wait_gone

pytestmark = pytest.mark.e2e

MIB = 1 << 20
LAYER_BYTES = 8 * MIB
PULL_S = 30


@pytest.fixture
def service(shims: Shims, runtime: Containerd, hub: Recorder) -> Iterator[ActivatedService]:
    """A shim whose socket outlives it, before the node."""
    folder = shims.directory / "handed"
    folder.mkdir()
    started = ActivatedService(
        folder, f"unix://{runtime.socket}", address=hub.address, auth=HUB_LOGIN
    )
    started.command = str(COMMAND)
    try:
        started.start()
        yield started
    finally:
        started.close()


class Asking:
    """crictl, which connects anew each time, and a client that stays; all have to be answered."""

    def __init__(self, crictl: Crictl, socket: Path) -> None:
        self._crictl = crictl
        self._socket = socket
        self._ended = threading.Event()
        self.runs = 0
        self.calls = 0

    def by_crictl(self) -> None:
        while not self._ended.is_set():
            self._crictl.ok("version")
            self._crictl.ok("images")
            self.runs += 2

    def by_one_client(self) -> None:
        with CriClient(self._socket, timeout_s=20) as client:
            while not self._ended.is_set():
                assert client.version()[0] == "containerd"
                client.images()
                self.calls += 2

    def end(self) -> None:
        self._ended.set()


def test_a_long_pull_a_watch_and_crictl(
    service: ActivatedService,
    runtime: Containerd,
    hub: Recorder,
    registry: Registry,
    node_client: CriClient,
    via_crictl: Callable[[Any], Crictl],
) -> None:
    """No call fails, the pull ends under its own name, the watch goes on."""
    layer = images.layered("handed", LAYER_BYTES)
    with registry.pusher() as pusher:
        pusher.push(layer, "library/handed", "1")
    path = f"/v2/library/handed/blobs/{layer.layers[0].digest}"
    hub.paces[path] = Pace(bytes_s=LAYER_BYTES // PULL_S)
    old, inode, containerd = service.main_pid, service.inode, runtime.pid
    asking = Asking(via_crictl(service), Path(service.socket))
    seen: list[bytes] = []
    with channel(Path(service.socket)) as watching, ThreadPoolExecutor(4) as pool:
        subscribe: Any = watching.unary_stream("/containerd.services.events.v1.Events/Subscribe")
        watch = subscribe(b"")
        watched = pool.submit(lambda: seen.extend(watch))
        running = [pool.submit(asking.by_crictl), pool.submit(asking.by_one_client)]
        pull = pool.submit(via_crictl(service).pull, "handed:1", timeout_s=120)
        try:
            wait_for("the layer", lambda: hub.bytes_of(layer.layers[0].digest) > 0, 30)
            named = RunningService(endpoint_of(str(service.file)), service.command)
            done = named.hand_over()
            assert service.main_pid == done.pid != old
            assert not pull.done()
            before = len(seen)
            ran = pull.result(150)
            assert ran.status == 0, ran.err
            wait_for("an event of the pull", lambda: len(seen) > before, 10)
            assert not watched.done()
            assert alive(old)
        finally:
            asking.end()
            watch.cancel()
        wait_gone(old, 20)
        for each in running:
            each.result(60)
    print(f"{asking.runs} runs of crictl, {asking.calls} calls of one client, {len(seen)} events")
    names = {name for name in on_node(node_client) if not name.startswith("sha256:")}
    assert names == {"docker.io/library/handed:1", f"docker.io/library/handed@{layer.digest}"}
    assert (service.inode, runtime.pid) == (inode, containerd)
