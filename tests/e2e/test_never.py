"""imagePullPolicy Never: what is on the node is found, whoever put it there, with nobody to ask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import HUB_LOGIN, Shims
from tests.e2e.support import images
from tests.e2e.support.containerd import Containerd
from tests.e2e.support.cri_client import CriClient
from tests.e2e.support.crictl import Crictl
from tests.e2e.support.process import free_port
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
