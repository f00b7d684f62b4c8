"""imagePullPolicy Never: what is on the node is found, whoever put it there, with nobody to ask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import HUB_LOGIN, Direct, Shims, on_node
from tests.e2e.support import images
from tests.e2e.support.containerd import Containerd
from tests.e2e.support.cri_client import CriClient
from tests.e2e.support.crictl import Crictl
from tests.e2e.support.process import free_port
from tests.e2e.support.recorder import Recorder
from tests.e2e.support.shim import Shim

pytestmark = [pytest.mark.e2e, pytest.mark.releases]

IMAGE = "never:1"


@pytest.fixture
def dead_hub() -> dict[str, Any]:
    """A hub where nothing listens: no question about an image may need it."""
    return {"address": f"http://127.0.0.1:{free_port()}", "auth": HUB_LOGIN}


def preload(runtime: Containerd, name: str, directory: Path) -> None:
    """Puts an image that can run on the node under that one name, as `ctr images import` does."""
    image = images.busybox("never", user="web")
    runtime.load(images.docker_archive(image, name, directory / "never.tar"))
    with CriClient(runtime.socket) as client:
        client.wait_for_image(name)


def starts_a_pod(shim: Shim, directory: Path, policy_image: str) -> None:
    """What kubelet does under Never: ImageStatus, then CreateContainer with what it found."""
    with CriClient(shim.socket) as client:
        status = client.image_status(policy_image)
        assert status is not None
        assert status.username == "web"
        pod = client.run_pod("never", directory)
        for name, image in (("by-id", status.id), ("by-name", policy_image)):
            container = client.create_container(pod, name, image, ["sleep", "600"], directory)
            client.start_container(container)
            assert client.exec_sync(container, ["cat", "/marker"]) == "never"
        client.remove_pod(pod)


@pytest.mark.parametrize("place", ["docker.io/library", "HUB/library"])
@pytest.mark.parametrize("asked", [IMAGE, f"docker.io/library/{IMAGE}"])
def test_a_preloaded_image(
    place: str,
    asked: str,
    runtime: Containerd,
    shims: Shims,
    dead_hub: dict[str, Any],
    tmp_path: Path,
) -> None:
    """Preloaded under the original name or under the hub's, it runs with all registries down."""
    hub = dead_hub["address"].removeprefix("http://")
    preload(runtime, f"{place.replace('HUB', hub)}/{IMAGE}", tmp_path)
    starts_a_pod(shims.serve(dead_hub), tmp_path, asked)


@pytest.mark.parametrize("how", ["preload", "Go shim"])
def test_an_image_under_the_hubs_name_alone(
    how: str,
    past: Direct,
    shims: Shims,
    hub: Recorder,
    hub_config: dict[str, Any],
    node_client: CriClient,
    tmp_path: Path,
) -> None:
    """It gets the names of a direct pull at the next question, and keeps the hub's."""
    on_hub = f"{hub.host}/library/nginx:latest"
    wanted = past.leaves("nginx:latest")
    if how == "preload":
        image = images.busybox("nginx", user="web")
        past.runtime.load(images.docker_archive(image, on_hub, tmp_path / "nginx.tar"))
        node_client.wait_for_image(on_hub)
    else:
        username, _, password = HUB_LOGIN.partition(":")
        node_client.pull(on_hub, username=username, password=password)
    before = on_node(node_client)
    names = {name for name in before if name.startswith(hub.host)}
    shim = shims.serve(hub_config)
    with CriClient(shim.socket) as client:
        seen = client.image_status("nginx:latest")
        assert seen is not None
        after = on_node(node_client)
        assert seen.names == {name for name in after if "/" in name}
    assert {name: after[name] for name in before} == before
    if how == "preload":  # its manifest is not the one that a registry has
        digest = before[on_hub].digest
        assert after.keys() - before.keys() == {
            "docker.io/library/nginx:latest",
            f"docker.io/library/nginx@{digest}",
        }
    else:
        assert {name: record for name, record in after.items() if name not in names} == wanted


def test_an_absent_image_is_absent(shims: Shims, dead_hub: dict[str, Any]) -> None:
    """An image that is not there is answered at once, as the runtime answers it."""
    with CriClient(shims.serve(dead_hub).socket, timeout_s=2) as client:
        assert client.image_status("absent:1") is None


def test_removal_by_the_plain_name(
    runtime: Containerd, shims: Shims, dead_hub: dict[str, Any], direct: Crictl, tmp_path: Path
) -> None:
    """An image that is on the node under the hub's name alone goes by its plain name."""
    hub = dead_hub["address"].removeprefix("http://")
    preload(runtime, f"{hub}/library/{IMAGE}", tmp_path)
    with CriClient(shims.serve(dead_hub).socket) as client:
        client.remove_image(IMAGE)
        assert client.image_status(IMAGE) is None
    assert direct.inspecti(f"{hub}/library/{IMAGE}") is None


def test_ids_are_left_alone(
    runtime: Containerd, shims: Shims, dead_hub: dict[str, Any], tmp_path: Path
) -> None:
    """An image ID, with or without its algorithm, is found and removed as it is."""
    preload(runtime, f"docker.io/library/{IMAGE}", tmp_path)
    with CriClient(shims.serve(dead_hub).socket) as client:
        found = client.image_status(IMAGE)
        assert found is not None
        for form in (found.id, found.id.removeprefix("sha256:")):
            assert client.image_status(form) == found
        client.remove_image(found.id)
        assert client.image_status(IMAGE) is None
