"""The names that an image has in containerd's own store after a pull through a registry."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.conftest import HUB_LOGIN, Shims
from tests.e2e.support.cri_client import CallError, CriClient
from tests.e2e.support.process import wait_for
from tests.e2e.support.recorder import Recorder
from tests.e2e.support.registry import Registry

pytestmark = [pytest.mark.e2e, pytest.mark.releases]

USERNAME, _, PASSWORD = HUB_LOGIN.partition(":")


def names_of(node: CriClient, word: str) -> set[str]:
    """Every name in the store that contains `word`, image ids aside."""
    return {name for name in node.store() if word in name and not name.startswith("sha256:")}


def become(node: CriClient, word: str, wanted: set[str]) -> None:
    """Waits until exactly these names are there (the shim tags after the answer)."""
    wait_for(f"exactly {wanted}", lambda: names_of(node, word) == wanted, 15)


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

    containerd itself names a tag's pull twice, `:tag` and `@digest`, and a digest's once.
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
        become(node_client, "nginx", wanted)
        assert client.image_status(asked) is not None


def test_a_name_that_was_there_stays(
    shims: Shims, hub_config: dict[str, Any], hub: Recorder, node_client: CriClient
) -> None:
    """`original` does not take away a registry's name that somebody pulled before."""
    image = f"{hub.host}/library/nginx:latest"
    node_client.pull(image, username=USERNAME, password=PASSWORD)
    shim = shims.serve({**hub_config, "names": "original"})
    with CriClient(shim.socket) as client:
        client.pull("nginx:latest")
    wait_for("the original", lambda: "docker.io/library/nginx:latest" in node_client.store(), 15)
    assert image in node_client.store()


def test_two_originals_of_one_image(
    shims: Shims, hub_config: dict[str, Any], hub: Recorder, node_client: CriClient
) -> None:
    """docker.io's and quay.io's name of one repository on the hub are both kept and found."""
    shim = shims.serve(hub_config)
    with CriClient(shim.socket) as client:
        first = client.pull("library/busybox:1.36")
        second = client.pull("quay.io/library/busybox:1.36")
        assert first == second
        for domain in ("docker.io", "quay.io", hub.host):
            node_client.wait_for_image(f"{domain}/library/busybox:1.36", 3)
        client.remove_image("quay.io/library/busybox:1.36")
        assert client.image_status("busybox:1.36") is None


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
    """A PullImage whose sandbox carries 15 MiB of annotations is rewritten like any other."""
    shim = shims.serve(hub_config)
    annotations = [{1: f"note-{number}", 2: "x" * (1 << 20)} for number in range(15)]
    with CriClient(shim.socket) as client:
        client.image_call("PullImage", {1: {1: "nginx:latest"}, 3: {7: annotations}})
        assert client.image_status("nginx:latest") is not None


def test_a_name_on_the_hub_itself(
    shims: Shims, hub_config: dict[str, Any], hub: Recorder, node_client: CriClient
) -> None:
    """An image that names the hub gets the hub's login when the caller sends none."""
    shim = shims.serve(hub_config)
    with CriClient(shim.socket) as client:
        client.pull(f"{hub.host}/library/nginx:latest")
    assert not [name for name in names_of(node_client, "nginx") if name.startswith("docker.io/")]
