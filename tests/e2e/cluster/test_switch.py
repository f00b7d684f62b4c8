"""One node is switched without the chart: killed, undone, and pulling while it hands over."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster.conftest import NEW, NGINX, OLD, differing, preload, state
from tests.e2e.support import images
from tests.e2e.support.bed import Bed
from tests.e2e.support.cluster_node import ClusterNode
from tests.e2e.support.fleet_image import Images
from tests.e2e.support.load import load
from tests.e2e.support.process import wait_for
from tests.e2e.support.report import NOTES
from tests.e2e.support.stock_node import CONTAINERD, HUB
from tests.e2e.support.switching import (
    BUNDLES,
    SWITCH,
    ask,
    ended,
    kubelet_starts,
    switched,
    wait_until_served,
)
from tests.e2e.support.switching import state as last_word
from tests.e2e.support.workload import containers, deployed, watched

pytestmark = pytest.mark.cluster

POINTS = 20
# A kubelet that ends at its start is started again after 10 s.
STEADY_S = 15.0
KUBELET_LOOKS_S = 5.0
# Longer than a hand-over may take; it is let go then.
PULL_S = 600.0
SHARED = "library/shared"


@contextlib.contextmanager
def unpacked(node: ClusterNode, fleet_images: Images) -> Iterator[None]:
    """Both versions are on the node; afterwards nothing of the shim is."""
    for version in (OLD, NEW):
        script = fleet_images.script(version).decode()
        node.add(f"{BUNDLES}/{version}/image-cri-shim", script, 0o755)
    try:
        yield
    finally:
        node.by_hand("uninstall-service", "--now", "--purge", "--force", check=False)
        node.sh(f"rm -rf {BUNDLES} /var/lib/image-cri-shim /etc/image-cri-shim.yaml")


def test_a_switch_that_is_killed_at_any_point(cluster: Bed, fleet_images: Images) -> None:
    """Afterwards the node has the old version or the new one, whole, and kubelet is well."""
    node = cluster.nodes[2]
    with unpacked(node, fleet_images):
        assert switched(node, OLD, "r0") == "healthy"
        ends = []
        for point in range(POINTS):
            now = node.sh(f"readlink {BUNDLES}/current").stdout.strip()
            ask(node, NEW if now == OLD else OLD, f"r{point + 1}")
            time.sleep(0.2 + point * 0.6)
            node.run("systemctl", "kill", "--signal=KILL", SWITCH)
            last = ended(node)
            wait_until_served(node)
            assert last["phase"] in {"healthy", "undone"}, last
            ends.append(f"{last['phase']} {last['version']}")
        NOTES.append(f"cluster: a switch killed at {POINTS} points: {ends}")


@pytest.mark.parametrize("number", [0, 2], ids=["containerd 1.6", "containerd 2"])
@pytest.mark.parametrize("mode", ["install", "remove"])
def test_an_undo_with_every_step_done(
    cluster: Bed, fleet_images: Images, tmp_path: Path, mode: str, number: int
) -> None:
    """Kubelet is started once by it and stays; no container restarts.

    A kubelet that looks at its runtime while that starts again says that the node is not Ready,
    until it looks the next time.
    """
    node = cluster.nodes[number]
    preload(cluster, tmp_path)
    with unpacked(node, fleet_images), deployed(cluster, "web", NGINX) as pods:
        if mode == "remove":
            assert switched(node, OLD, "before") == "healthy"
        before, running = state(node), containers(pods)
        with watched(cluster, "web") as watch:
            ask(node, OLD, mode, mode=mode)
            wait_for("its health", lambda: _step(node, mode) == "health", 60)
            node.run("systemctl", "kill", "--signal=KILL", SWITCH)
            began = time.time()
            ended(node)
            took_s = time.time() - began
            told = node.run("systemctl", "is-active", "kubelet").stdout.strip()
            time.sleep(STEADY_S)
            cluster.wait_until_ready()
        starts = kubelet_starts(node, began)
        NOTES.append(f"cluster: undo of {mode}: {took_s:.1f} s, kubelet started {starts} times")
        NOTES.append(f"cluster: undo of {mode}: not Ready {watch.nodes.gaps}")
        assert (last_word(node)["phase"], told) == ("undone", "active")
        assert starts == 1
        assert _same(state(node), before, mode) == set()
        assert all(gap_s < KUBELET_LOOKS_S for gaps in watch.nodes.gaps.values() for gap_s in gaps)
        assert containers(cluster.pods("-l", "app=web")) == running


def _step(node: ClusterNode, revision: str) -> str:
    last = last_word(node)
    return last.get("step", "") if last.get("revision") == revision else ""


def _same(now: dict[str, object], before: dict[str, object], mode: str) -> set[str]:
    """What differs, the service's own directory aside: a first start makes it."""
    found = differing(now, before)
    return {each for each in found if mode == "remove" or "/var/lib/image-cri-shim" not in each}


@pytest.mark.parametrize("number", [0, 2], ids=["containerd 1.6", "containerd 2"])
def test_one_image_is_pulled_by_both_processes(
    cluster: Bed, fleet_images: Images, tmp_path: Path, number: int
) -> None:
    """The old one has it under way, the new one is asked too: both succeed, there is one image."""
    node = cluster.nodes[number]
    image = images.small("shared", 2_000_000)
    cluster.hub.push(image, SHARED, "1")
    with unpacked(node, fleet_images):
        assert switched(node, OLD, "before") == "healthy"
        began = time.monotonic()
        with load(cluster, "none", tmp_path, calls=False) as going:
            with cluster.hub.slow(image, SHARED, PULL_S):
                going.pull(node, f"{SHARED}:1")
                time.sleep(2)
                assert switched(node, NEW, "upgrade", health_s=60) == "healthy"
                handed_s = time.monotonic() - began
                going.pull(node, f"{SHARED}:1")
                time.sleep(5)
                assert going.pulling == 2
            going.wait_for_pulls(60)
            took_s = time.monotonic() - began
            assert "\n".join(going.stop()) == ""
        NOTES.append(f"cluster: pulled by both: handed over {handed_s:.0f} s, both {took_s:.0f} s")
        assert _names(node) == {f"docker.io/{SHARED}:1"}
        node.crictl("rmi", f"{SHARED}:1")
        assert _names(node) == set()


def _names(node: ClusterNode) -> set[str]:
    """Those of the image, and any that the hub's name left behind."""
    listed = json.loads(node.crictl("images", "-o", "json", endpoint=CONTAINERD).stdout)["images"]
    names = [name for one in listed for name in one["repoTags"] + one["repoDigests"]]
    tags = {name for name in names if SHARED in name and "@" not in name}
    return tags | {name for name in names if HUB in name}
