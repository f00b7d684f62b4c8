"""The names that an image has in containerd's own store after a pull through a registry."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from tests.e2e.conftest import HUB_LOGIN, Direct, Shims, on_node
from tests.e2e.support import images
from tests.e2e.support.cri_client import CallError, CriClient
from tests.e2e.support.recorder import Recorder
from tests.e2e.support.registry import Registry

pytestmark = [pytest.mark.e2e, pytest.mark.releases]

USERNAME, _, PASSWORD = HUB_LOGIN.partition(":")


def names_of(node: CriClient, word: str) -> set[str]:
    """Every name in the store that contains `word`, image ids aside."""
    return {name for name in node.store() if word in name and not name.startswith("sha256:")}


@pytest.fixture
def digest(registry: Registry, hub: Recorder, node_client: CriClient) -> str:
    """The digest of nginx:latest on the hub; the image is not on the node afterwards."""
    image = f"{hub.host}/library/nginx:latest"
    node_client.pull(image, username=USERNAME, password=PASSWORD)
    found = node_client.store()[image].digest
    node_client.remove_image(image)
    return found


@pytest.mark.parametrize("mode", ["both", "original", "registry"])
@pytest.mark.parametrize("form", [":latest", "@DIGEST", ":latest@DIGEST"])
def test_names_after_a_pull(
    mode: str,
    form: str,
    digest: str,
    shims: Shims,
    hub_config: dict[str, Any],
    hub: Recorder,
    node_client: CriClient,
) -> None:
    """Both names, the original alone or the registry's alone, by tag, digest and both together.

    They are so with the answer, in the store and for the CRI. containerd itself names a tag's
    pull twice, `:tag` and `@digest`, and a digest's once.
    """
    asked = f"nginx{form.replace('DIGEST', digest)}"
    shim = shims.serve({**hub_config, "names": mode})
    with CriClient(shim.socket) as client:
        client.pull(asked)
        suffixes = {f"@{digest}"} if "@" in form else {":latest", f"@{digest}"}
        wanted: set[str] = set()
        if mode != "original":
            wanted |= {f"{hub.host}/library/nginx{suffix}" for suffix in suffixes}
        if mode != "registry":
            wanted |= {f"docker.io/library/nginx{suffix}" for suffix in suffixes}
        assert names_of(node_client, "nginx") == wanted
        seen = client.image_status(asked)
        assert seen is not None
        assert seen.names == wanted
        assert seen in client.images()


def test_a_name_that_was_there_stays(
    shims: Shims, hub_config: dict[str, Any], hub: Recorder, node_client: CriClient
) -> None:
    """`original` does not take away a registry's name that somebody pulled before."""
    image = f"{hub.host}/library/nginx:latest"
    node_client.pull(image, username=USERNAME, password=PASSWORD)
    shim = shims.serve({**hub_config, "names": "original"})
    with CriClient(shim.socket) as client:
        client.pull("nginx:latest")
        assert {image, "docker.io/library/nginx:latest"} <= node_client.store().keys()


def test_two_originals_of_one_image(
    past: Direct, shims: Shims, hub_config: dict[str, Any], node_client: CriClient
) -> None:
    """docker.io's and quay.io's name of one repository on the hub are both kept and found."""
    wanted = past.leaves("library/busybox:1.36", "quay.io/library/busybox:1.36")
    shim = shims.serve(hub_config)
    with CriClient(shim.socket) as client:
        first = client.pull("library/busybox:1.36")
        second = client.pull("quay.io/library/busybox:1.36")
        assert first == second
        assert on_node(node_client) == wanted
        for domain in ("docker.io", "quay.io"):
            assert client.image_status(f"{domain}/library/busybox:1.36") is not None
        client.remove_image("quay.io/library/busybox:1.36")
        assert client.image_status("busybox:1.36") is None


@pytest.mark.parametrize("second", ["busybox:1.36", "quay.io/library/busybox:1.36", "busybox:two"])
def test_pulls_at_once_of_one_image(
    second: str,
    past: Direct,
    shims: Shims,
    hub_config: dict[str, Any],
    registry: Registry,
    node_client: CriClient,
) -> None:
    """The same name twice, two names of one on the hub, two tags of one digest: as pulled apart."""
    registry.push(images.busybox("busybox"), "library/busybox", "two")
    wanted = past.leaves("busybox:1.36", second)
    shim = shims.serve(hub_config)
    for _ in range(5):
        with CriClient(shim.socket) as client, ThreadPoolExecutor(2) as pool:
            assert len(set(pool.map(client.pull, ["busybox:1.36", second]))) == 1
            assert on_node(node_client) == wanted
            client.remove_image("busybox:1.36")
            assert on_node(node_client) == {}


@pytest.mark.parametrize("first", ["hub", "plain"])
def test_the_hubs_own_name_stays(
    first: str,
    past: Direct,
    shims: Shims,
    hub_config: dict[str, Any],
    hub: Recorder,
    node_client: CriClient,
) -> None:
    """A pull of the hub's own name overlaps one of the plain name: both names stay, whole."""
    plain, on_hub = "nginx:latest", f"{hub.host}/library/nginx:latest"
    wanted = past.leaves("nginx:latest")
    wanted |= {
        name.replace("docker.io", hub.host): replace(
            record, name=name.replace("docker.io", hub.host)
        )
        for name, record in wanted.items()
    }
    shim = shims.serve(hub_config)
    hub.delay_s = 0.1
    order = [on_hub, plain] if first == "hub" else [plain, on_hub]
    for gap_s in (0.0, 0.1, 0.3, 0.6, 1.2):
        with CriClient(shim.socket) as client, ThreadPoolExecutor(2) as pool:
            early = pool.submit(client.pull, order[0])
            time.sleep(gap_s)
            late = pool.submit(client.pull, order[1])
            assert early.result() == late.result()
            assert on_node(node_client) == wanted
            client.remove_image(plain)
            assert on_node(node_client) == {}


def test_a_failed_pull_leaves_no_name(
    shims: Shims, hub_config: dict[str, Any], hub: Recorder, node_client: CriClient
) -> None:
    """A pull that breaks off at the layers leaves no name behind, neither ours nor the hub's."""
    before = set(node_client.store())
    hub.fault, hub.fault_prefix = 503, "/v2/library/nginx/blobs/"
    shim = shims.serve({**hub_config, "fallback": "deny"})
    with CriClient(shim.socket) as client:
        with pytest.raises(CallError):
            client.pull("nginx:latest")
        assert client.image_status("nginx:latest") is None
    assert set(node_client.store()) == before


def test_a_large_request(shims: Shims, hub_config: dict[str, Any]) -> None:
    """A PullImage whose sandbox carries 3 MiB of annotations is rewritten like any other."""
    shim = shims.serve(hub_config)
    annotations = [{1: f"note-{number}", 2: "x" * (1 << 20)} for number in range(3)]
    with CriClient(shim.socket) as client:
        client.image_call("PullImage", {1: {1: "nginx:latest"}, 3: {7: annotations}})
        assert client.image_status("nginx:latest") is not None


def test_a_name_on_the_hub_itself(
    shims: Shims, hub_config: dict[str, Any], hub: Recorder, node_client: CriClient
) -> None:
    """An image that names the hub gets the hub's login when the caller sends none.

    It keeps that name, also when the plain name is pulled after it.
    """
    shim = shims.serve(hub_config)
    with CriClient(shim.socket) as client:
        client.pull(f"{hub.host}/library/nginx:latest")
        own = names_of(node_client, "nginx")
        assert not [name for name in own if name.startswith("docker.io/")]
        client.pull("nginx:latest")
        assert names_of(node_client, "nginx") == {
            name.replace(hub.host, host) for name in own for host in (hub.host, "docker.io")
        }
