"""A hub that has just worked may fail like any other: the same call gets the image elsewhere."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.e2e.conftest import HUB_LOGIN, MIRROR_LOGIN, Direct, Shims, on_node
from tests.e2e.support import images
from tests.e2e.support.cri_client import CriClient
from tests.e2e.support.process import wait_for
from tests.e2e.support.recorder import Recorder
from tests.e2e.support.registry import Registry
from tests.e2e.support.report import NOTES
from tests.e2e.support.shim import Shim

pytestmark = [pytest.mark.e2e, pytest.mark.releases]

MIB = 1 << 20
_serial = itertools.count(1)


@pytest.fixture
def config(hub: Recorder, second: Recorder) -> dict[str, Any]:
    """The hub, and below it a second registry with the same images."""
    below = {"address": second.address, "auth": HUB_LOGIN}
    return {"address": hub.address, "auth": HUB_LOGIN, "registries": [below]}


def push(*sizes: int, to: Registry) -> tuple[str, images.Image]:
    """A new image with layers of these sizes: its short name, itself."""
    name = f"failover-{next(_serial)}"
    image = images.layered(name, *sizes)
    to.push(image, f"library/{name}", "1")
    return f"{name}:1", image


def blob(image: str, digest: str) -> str:
    return f"/v2/library/{image.partition(':')[0]}/blobs/{digest}"


def asked_in_vain(hub: Recorder, path: str) -> bool:
    """Whether the runtime wanted that of the hub and did not get it."""
    return any(
        seen.by_runtime and seen.status >= 400 and seen.path.partition("?")[0] == path
        for seen in hub.seen
        if seen.status != 401
    )


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
@pytest.mark.parametrize("fault", [404, 500])
def test_a_blob_fails_on_a_hub_that_has_just_worked(
    fault: int,
    restarted: bool,
    config: dict[str, Any],
    past: Direct,
    shims: Shims,
    hub: Recorder,
    registry: Registry,
    node_client: CriClient,
) -> None:
    """Three of three come from the second registry within their call, and leave no trace."""
    good, _ = push(1000, to=registry)
    shim = shims.serve(config)
    for _ in range(3):
        image, built = push(50_000, 50_000, to=registry)
        wanted = past.leaves(image)
        with CriClient(shim.socket) as client:
            client.pull(good)
            client.remove_image(good)
        if restarted:
            shim.kill()
            shim.serve()
        hub.fault, hub.fault_prefix = fault, blob(image, built.layers[-1].digest)
        with CriClient(shim.socket) as client:
            assert client.pull(image) == built.id
            assert on_node(node_client) == wanted
            hub.fault = 0
            assert asked_in_vain(hub, blob(image, built.layers[-1].digest))
            client.remove_image(image)
    wait_for("three lines of failed pulls", lambda: passed_over(shim) >= 3, 20)
    assert passed_over(shim) == 3


def passed_over(shim: Shim) -> int:
    """How many lines tell of a pull that failed."""
    return sum("pull failed" in line for line in shim.text().splitlines())


def test_another_digest_on_the_second_registry(
    shims: Shims,
    hub: Recorder,
    registry: Registry,
    mirror: Registry,
    node_client: CriClient,
) -> None:
    """The hub's manifest came, a layer did not: nothing but the mirror's image is named."""
    image, lost = push(50_000, to=registry)
    other = images.layered("another digest", 60_000)
    mirror.push(other, f"library/{image.partition(':')[0]}", "1")
    registry.lose_blob(lost.layers[0].digest)
    assert mirror.certificate is not None
    below = {
        "address": mirror.address,
        "auth": MIRROR_LOGIN,
        "caFile": str(mirror.certificate.ca),
    }
    shim = shims.serve({"address": hub.address, "auth": HUB_LOGIN, "registries": [below]})
    with CriClient(shim.socket) as client:
        assert client.pull(image) == other.id
        store = on_node(node_client)
        seen = client.image_status(image)
    assert asked_in_vain(hub, blob(image, lost.layers[0].digest))
    assert store.keys() == {
        other.id,
        f"docker.io/library/{image}",
        f"docker.io/library/{image.partition(':')[0]}@{other.digest}",
    }
    assert {record.digest for record in store.values()} == {other.digest}
    assert seen is not None
    assert seen.id == other.id


def fetched_twice(
    shim: Shim, image: str, built: images.Image, hub: Recorder, second: Recorder
) -> tuple[int, int]:
    """Bytes of layers that both registries together sent beyond the image's; those of the hub."""
    digests = [layer.digest for layer in built.layers]
    size = sum(len(layer.data) for layer in built.layers)
    with CriClient(shim.socket) as client:
        assert client.pull(image) == built.id
    first = hub.bytes_of(*digests)
    return first + second.bytes_of(*digests) - size, first


@pytest.mark.parametrize("at", ["at once", "after the others"])
def test_bytes_at_a_failover(
    at: str,
    config: dict[str, Any],
    shims: Shims,
    hub: Recorder,
    second: Recorder,
    registry: Registry,
    node_client: CriClient,
) -> None:
    """Measured: what is fetched twice when the last of five layers of 4 MiB fails."""
    image, built = push(*[4 * MIB] * 5, to=registry)
    shim = shims.serve(config)
    last = blob(image, built.layers[-1].digest)
    hub.fault, hub.fault_prefix = 500, last
    if at == "after the others":
        hub.fault_delay_s = 2.0
    twice, first = fetched_twice(shim, image, built, hub, second)
    NOTES.append(
        f"failover at the last of 5 layers of 4 MiB, {at} ({shims.runtime.release.name}): "
        f"{first / MIB:.1f} MiB came from the hub, {twice / MIB:.1f} MiB were fetched twice"
    )
    # Some hundred bytes more than that were seen once (604 where the hub had sent 118); why is not
    # known.
    assert 0 <= twice <= first + MIB // 16
