"""A node that has never pulled anything and reaches nothing but its hub starts pods, if it can."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import refuse
from tests.e2e.support import images
from tests.e2e.support.containerd import Containerd, Release
from tests.e2e.support.cri_client import CallError, CriClient, StoreRecord
from tests.e2e.support.process import free_port
from tests.e2e.support.recorder import Recorder
from tests.e2e.support.registry import Registry
from tests.e2e.support.report import NOTES
from tests.e2e.support.shim import COMMAND, Shim

pytestmark = [pytest.mark.e2e, pytest.mark.releases]

PAUSE = "registry.k8s.io/blank-pause:9.9"
OWN_HANDLER = """
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.own]
  runtime_type = "io.containerd.runc.v2"
  snapshotter = "native"
"""
HELD_S = 5
"""More than a sandbox that is not held takes, less than the shortest wait for a registry here."""


@pytest.fixture(scope="module")
def blank_runtime(room: Path, release: Release) -> Iterator[Containerd]:
    """A containerd whose pause image is nowhere on the node."""
    more = OWN_HANDLER if release.version >= (2, 0) else ""
    node = Containerd(
        room / f"blank-{release.name}", sandbox_image=PAUSE, release=release, more=more
    )
    node.serve()
    yield node
    node.close()


@pytest.fixture(scope="module")
def open_registry(room: Path) -> Iterator[Registry]:
    """What the Internet has, for those who reach it: no login."""
    registry = Registry(room / "open")
    registry.serve()
    registry.push(images.pause(), PAUSE.partition("/")[2].partition(":")[0], "9.9")
    yield registry
    registry.stop()


@pytest.fixture(scope="module")
def internet(blank_runtime: Containerd) -> Iterator[Recorder]:
    recorder = Recorder()
    blank_runtime.route("registry.k8s.io", recorder.address)
    yield recorder
    recorder.close()


@pytest.fixture
def blank(blank_runtime: Containerd, internet: Recorder) -> Iterator[Containerd]:
    """The node, with no image and no pod, and an Internet that has nothing."""
    internet.clear()
    internet.upstream = ""
    empty(blank_runtime)
    yield blank_runtime
    empty(blank_runtime)


@pytest.fixture
def node(blank: Containerd) -> Iterator[CriClient]:
    """A client past every shim."""
    with CriClient(blank.socket) as client:
        yield client


@pytest.fixture
def hub_with_pause(hub: Recorder, registry: Registry) -> Recorder:
    """The hub, which has the pause image under the path of its name."""
    registry.push(images.pause(), PAUSE.partition("/")[2].partition(":")[0], "9.9")
    return hub


Serve = Callable[..., Shim]


@pytest.fixture
def serve(blank: Containerd, tmp_path: Path, room: Path) -> Iterator[Serve]:
    """Starts a shim before the blank node."""
    if not COMMAND.exists():
        refuse(f"needs {COMMAND.name}, installed beside this Python")
    started: list[Shim] = []

    def start(config: dict[str, Any], runtime: Containerd | None = None) -> Shim:
        place = room / f"blank-shim-{time.monotonic_ns()}"
        shim = Shim(place, (runtime or blank).socket, config)
        started.append(shim)
        shim.serve()
        return shim

    yield start
    for shim in started:
        shim.stop()


def empty(node: Containerd) -> None:
    """Takes every pod and image away."""
    with CriClient(node.socket) as client:
        client.remove_pods()
        for name in client.store():
            client.store_call("Delete", {1: name})
        for image in client.images():
            client.remove_image(image.id)


def run_pod(shim: Shim, logs: Path, name: str = "first", handler: str = "") -> float:
    """Seconds until a pod's sandbox runs; CallError when it does not."""
    started = time.monotonic()
    with CriClient(shim.socket) as client:
        client.run_pod(name, logs, handler)
    return time.monotonic() - started


def refused(socket: Path, logs: Path, handler: str = "") -> tuple[CallError, float]:
    """How a sandbox fails, and after how long."""
    started = time.monotonic()
    with CriClient(socket) as client, pytest.raises(CallError) as caught:
        client.run_pod("refused", logs, handler)
    return caught.value, time.monotonic() - started


def fails_as_without_the_shim(shim: Shim, blank: Containerd, logs: Path) -> float:
    """Seconds that the first sandbox is held; the next one is not. Both get the runtime's error."""
    direct, direct_s = refused(blank.socket, logs)
    first, first_s = refused(shim.socket, logs)
    second, second_s = refused(shim.socket, logs)
    for error in (first, second):
        assert (error.code, _without_id(error)) == (direct.code, _without_id(direct))
    assert second_s < direct_s + 3
    return first_s


def _without_id(error: CallError) -> str:
    """What was said, but which sandbox it was, which containerd 2.0 and 2.1 tell."""
    return re.sub('^failed to start sandbox "[0-9a-f]{64}"', "no sandbox", error.details)


@pytest.fixture
def pulled_by_the_runtime(
    node: CriClient, blank: Containerd, internet: Recorder, open_registry: Registry, tmp_path: Path
) -> dict[str, StoreRecord]:
    """What the runtime's own pull of its pause image leaves, for a node with an Internet."""
    internet.upstream = open_registry.host
    node.run_pod("direct", tmp_path)
    store = node.store()
    internet.upstream = ""
    internet.clear()
    empty(blank)
    assert node.store() == {}
    return store


def test_the_first_pod(
    pulled_by_the_runtime: dict[str, StoreRecord],
    hub_with_pause: Recorder,
    hub_config: dict[str, Any],
    serve: Serve,
    blank: Containerd,
    internet: Recorder,
    node: CriClient,
    tmp_path: Path,
) -> None:
    """The pause image's name is the runtime's own word; it is pinned as by the runtime itself."""
    shim = serve(hub_config)
    took_s = run_pod(shim, tmp_path)
    NOTES.append(f"first pod of a blank node ({blank.release.name}): {took_s:.1f} s")
    assert took_s < 15
    assert node.store() == pulled_by_the_runtime
    (view,) = node.images()
    assert view.names == pulled_by_the_runtime.keys() - {view.id}
    assert view.pinned == blank.release.pins
    assert internet.seen == []
    asked = len(hub_with_pause.seen)
    assert run_pod(shim, tmp_path, "second") < HELD_S
    assert len(hub_with_pause.seen) == asked


def test_the_configured_name(
    hub_with_pause: Recorder,
    hub_config: dict[str, Any],
    serve: Serve,
    blank: Containerd,
    tmp_path: Path,
) -> None:
    """`sandboxImage` counts before what the runtime says: a wrong one is not mended."""
    wrong = {**hub_config, "sandboxImage": "registry.k8s.io/nothing:1", "negativeCacheTTL": "1h"}
    fails_as_without_the_shim(serve(wrong), blank, tmp_path)
    run_pod(serve({**hub_config, "sandboxImage": PAUSE}), tmp_path)


def test_the_words_of_a_sandbox_that_failed(
    room: Path,
    release: Release,
    internet: Recorder,
    hub_with_pause: Recorder,
    hub_config: dict[str, Any],
    serve: Serve,
    tmp_path: Path,
) -> None:
    """A runtime that tells its pause image nowhere says it once; then it is there.

    `sandboxImage` does it without that.
    """
    if release.version < (2, 0):
        pytest.skip("containerd 1.x tells it in its Status")
    silent = Containerd(
        room / f"silent-{release.name}",
        sandbox_image=PAUSE,
        release=release,
        called="another-runtime",
    )
    silent.route("registry.k8s.io", internet.address)
    silent.serve()
    try:
        shim = serve({**hub_config, "negativeCacheTTL": "1s"}, silent)
        error, _ = refused(shim.socket, tmp_path)
        assert PAUSE in error.details
        time.sleep(1.1)
        run_pod(shim, tmp_path)
        empty(silent)
        run_pod(serve({**hub_config, "sandboxImage": PAUSE}, silent), tmp_path)
    finally:
        silent.close()


@pytest.mark.parametrize("fallback", ["allow", "deny"])
@pytest.mark.parametrize("fault", ["hub down", "absent", "not served", "blob missing", "bad name"])
def test_it_fails_open(
    fault: str,
    fallback: str,
    hub: Recorder,
    hub_config: dict[str, Any],
    registry: Registry,
    serve: Serve,
    blank: Containerd,
    tmp_path: Path,
) -> None:
    """Whatever goes wrong, the call goes on; then nobody is held for negativeCacheTTL."""
    config = {**hub_config, "fallback": fallback, "negativeCacheTTL": "1h"}
    if fault == "hub down":
        config["address"] = f"http://127.0.0.1:{free_port()}"
    elif fault == "absent":
        hub.fault = 404
    elif fault == "not served":
        config["hub"] = {"domains": ["docker.io"]}
    elif fault == "blob missing":
        registry.push(images.pause(), "blank-pause", "9.9")
        hub.fault, hub.fault_prefix = 404, "/v2/blank-pause/blobs/"
    else:
        config["sandboxImage"] = "registry.k8s.io/another:1"
    shim = serve(config)
    held_s = fails_as_without_the_shim(shim, blank, tmp_path)
    assert held_s < HELD_S
    assert "pods' sandboxes go on without it" in shim.text()


def test_a_hub_that_is_back(
    hub_with_pause: Recorder,
    hub_config: dict[str, Any],
    serve: Serve,
    tmp_path: Path,
) -> None:
    """negativeCacheTTL after a failure the pause image is looked for again."""
    hub_with_pause.fault = 503
    shim = serve({**hub_config, "negativeCacheTTL": "2s"})
    refused(shim.socket, tmp_path)
    hub_with_pause.fault = 0
    deadline = time.monotonic() + 15
    while True:
        try:
            run_pod(shim, tmp_path)
            break
        except CallError:
            assert time.monotonic() < deadline
            time.sleep(0.5)


def test_a_handler_with_a_snapshotter_of_its_own(
    release: Release,
    hub_with_pause: Recorder,
    hub_config: dict[str, Any],
    serve: Serve,
    blank: Containerd,
    node: CriClient,
    tmp_path: Path,
) -> None:
    """Its pods start like any other's: containerd unpacks the pause image there by itself."""
    if release.version < (2, 0):
        pytest.skip("this containerd has one snapshotter")
    shim = serve(hub_config)
    run_pod(shim, tmp_path, "own", "own")
    assert any("blank-pause" in seen.path for seen in hub_with_pause.seen)
    assert PAUSE in node.store()


def test_a_removed_pause_image(
    hub_with_pause: Recorder,
    hub_config: dict[str, Any],
    serve: Serve,
    node: CriClient,
    tmp_path: Path,
) -> None:
    """Removed through the shim, it is brought for the next pod."""
    shim = serve(hub_config)
    run_pod(shim, tmp_path)
    with CriClient(shim.socket) as client:
        client.remove_pods()
        client.remove_image(PAUSE)
        assert node.store() == {}
    run_pod(shim, tmp_path, "second")
    assert PAUSE in node.store()
