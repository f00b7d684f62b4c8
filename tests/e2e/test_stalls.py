"""Registries that stand still or are slow in the middle of a layer."""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any

import pytest

from tests.e2e.conftest import HUB_LOGIN, Direct, Shims, on_node
from tests.e2e.support import images
from tests.e2e.support.cri_client import CriClient
from tests.e2e.support.process import wait_for
from tests.e2e.support.recorder import Pace, Recorder
from tests.e2e.support.registry import Registry
from tests.e2e.support.report import FAULTS, NOTES, Fault

pytestmark = [pytest.mark.e2e, pytest.mark.releases]

MIB = 1 << 20
_serial = itertools.count(1)


@pytest.fixture
def config(hub: Recorder, second: Recorder) -> dict[str, Any]:
    """The hub, and below it a second registry with the same images; `timeout` is the default."""
    below = {"address": second.address, "auth": HUB_LOGIN}
    hub_ = {"address": hub.address, "auth": HUB_LOGIN}
    return {**hub_, "registries": [below], "timeout": "15m"}


@pytest.fixture
def layer(registry: Registry) -> tuple[str, images.Image, str]:
    """A new image with one layer of 7 MiB: its short name, itself, the layer's path."""
    name = f"stall-{next(_serial)}"
    image = images.layered(name, 7 * MIB)
    registry.push(image, f"library/{name}", "1")
    return f"{name}:1", image, f"/v2/library/{name}/blobs/{image.layers[0].digest}"


def pull(shims: Shims, config: dict[str, Any], image: str, fault: str, by: str) -> float:
    """Seconds of a pull through a new shim; its row goes into the table."""
    shim = shims.serve(config)
    started = time.monotonic()
    with CriClient(shim.socket, timeout_s=100) as client:
        client.pull(image)
    took_s = time.monotonic() - started
    FAULTS.append(Fault(f"{fault} ({shims.runtime.release.name})", took_s, by, "OK"))
    return took_s


def test_a_layer_that_stalls_is_passed_over(
    config: dict[str, Any],
    layer: tuple[str, images.Image, str],
    past: Direct,
    shims: Shims,
    hub: Recorder,
    second: Recorder,
    node_client: CriClient,
) -> None:
    """Under the default configuration the second registry has given it within 60 s."""
    image, built, path = layer
    wanted = past.leaves(image)
    hub.paces[path] = Pace(stalls_after=3 * MIB)
    took_s = pull(shims, config, image, "a layer stalls after 3 MiB", second.host)
    assert on_node(node_client) == wanted
    assert hub.sent[path] >= 3 * MIB
    assert 25 < took_s < 60
    wait_for("the line", lambda: f"{hub.host}: stalled" in shims.started[-1].text(), 15)
    digest = built.layers[0].digest
    twice = hub.bytes_of(digest) + second.bytes_of(digest) - len(built.layers[0].data)
    NOTES.append(
        f"a layer of 7 MiB that stalls after 3 MiB ({shims.runtime.release.name}): "
        f"{twice / MIB:.1f} MiB were fetched twice"
    )


def test_a_slow_layer_is_neither_passed_over_nor_cut(
    config: dict[str, Any],
    layer: tuple[str, images.Image, str],
    past: Direct,
    shims: Shims,
    hub: Recorder,
    second: Recorder,
    node_client: CriClient,
) -> None:
    """A steady pull of three times stallTimeout, and of twice `timeout`, goes to its end."""
    image, built, path = layer
    wanted = past.leaves(image)
    hub.paces[path] = Pace(bytes_s=400 * 1024)
    patience = {"timeout": "8s", "stallTimeout": "5s"}
    took_s = pull(shims, {**config, **patience}, image, "a layer at 400 KiB/s", hub.host)
    assert took_s > 16
    assert on_node(node_client) == wanted
    assert not second.bytes_of(built.layers[0].digest)
    assert len([seen for seen in hub.seen if seen.by_runtime and seen.path == path]) <= 2


def test_a_stalled_hub_is_taken_up_again(
    config: dict[str, Any],
    layer: tuple[str, images.Image, str],
    past: Direct,
    shims: Shims,
    hub: Recorder,
    second: Recorder,
    node_client: CriClient,
) -> None:
    """Where all others fail, the one with the most bytes is asked again."""
    image, _, path = layer
    wanted = past.leaves(image)
    hub.paces[path] = Pace(stalls_after=3 * MIB)
    second.fault, second.fault_prefix = 500, path

    def moves_on() -> None:
        wait_for("the second registry's turn", lambda: any(s.path == path for s in second.seen), 50)
        hub.let_go()

    thread = threading.Thread(target=moves_on)
    thread.start()
    pull(shims, {**config, "stallTimeout": "4s"}, image, "a stall, the rest fails", hub.host)
    thread.join()
    assert on_node(node_client) == wanted
