"""A shim on each node, installed without the chart; the hub is the only registry there is."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster.conftest import NGINX, differing, preload, state
from tests.e2e.support import images
from tests.e2e.support.bed import Bed
from tests.e2e.support.cluster_node import ClusterNode
from tests.e2e.support.hub import LOGIN
from tests.e2e.support.load import REPOSITORY, TAG, load
from tests.e2e.support.process import wait_for
from tests.e2e.support.report import NOTES
from tests.e2e.support.stock_node import HUB, HUB_PORT
from tests.e2e.support.switching import kubelet_starts
from tests.e2e.support.workload import containers, deployed, restarts, watched

pytestmark = pytest.mark.cluster

CONFIG = "/etc/image-cri-shim.yaml"
# A kubelet that ends at its start is started again after 10 s.
STEADY_S = 15.0


def install(node: ClusterNode) -> None:
    """As the README has it."""
    node.add(CONFIG, f"address: http://{HUB}:{HUB_PORT}\nauth: {LOGIN}\n", 0o600)
    node.by_hand("install-service", "--wire-runtime", "--wire-kubelet", "--now")


def uninstall(node: ClusterNode) -> None:
    """All of it; the node's file, which is the user's, by hand."""
    node.by_hand("uninstall-service", "--now", "--purge", "--force")
    node.place(CONFIG).unlink()


@pytest.fixture
def installed(cluster: Bed) -> Iterator[Bed]:
    """A shim before every node's runtime."""
    cluster.each(install)
    yield cluster
    cluster.each(uninstall)


def test_a_deployment_whose_only_registry_is_the_hub(installed: Bed) -> None:
    """Its pods run on all three nodes; neither their status nor a node's names the hub."""
    with deployed(installed, "web", NGINX) as pods:
        assert {pod["spec"]["nodeName"] for pod in pods} == {n.name for n in installed.nodes}
        assert restarts(pods) == dict.fromkeys(restarts(pods), 0)
        seen = json.dumps([pod["status"] for pod in pods])
        assert f"docker.io/library/{NGINX}" in seen
        assert HUB not in seen
        assert HUB not in json.dumps([n["status"] for n in installed.plane.get("nodes")["items"]])


def test_the_first_install_under_running_pods(cluster: Bed, tmp_path: Path) -> None:
    """Kubelet restarts once; no container does, and no node or pod is seen not Ready."""
    preload(cluster, tmp_path)
    with deployed(cluster, "web", NGINX) as pods:
        before = containers(pods)
        with watched(cluster, "web") as watch:
            cluster.each(install)
            cluster.wait_until_ready()
        after = cluster.pods("-l", "app=web")
        NOTES.append(f"cluster: first install: nodes not Ready {watch.nodes.gaps}")
        NOTES.append(f"cluster: first install: pods not Ready {watch.pods.gaps}")
        assert containers(after) == before
        cluster.each(uninstall)
        assert containers(cluster.pods("-l", "app=web")) == before


@pytest.mark.parametrize("turn", range(3))
def test_uninstalling_under_running_pods(cluster: Bed, tmp_path: Path, turn: int) -> None:
    """Kubelet starts once and stays, and is there when the command ends; no node is not Ready."""
    preload(cluster, tmp_path)
    told: dict[str, str] = {}

    def look(node: ClusterNode) -> None:
        uninstall(node)
        told[node.name] = node.run("systemctl", "is-active", "kubelet").stdout.strip()

    with deployed(cluster, "web", NGINX) as pods:
        cluster.each(install)
        cluster.wait_until_ready()
        before, began = containers(pods), time.time()
        with watched(cluster, "web") as watch:
            cluster.each(look)
            time.sleep(STEADY_S)
            cluster.wait_until_ready()
        starts = {node.name: kubelet_starts(node, began) for node in cluster.nodes}
        gaps = watch.nodes.gaps
        NOTES.append(f"cluster: uninstall {turn}: kubelet started {starts}, not Ready {gaps}")
        assert told == dict.fromkeys(told, "active")
        assert starts == dict.fromkeys(told, 1)
        assert gaps == {}
        assert watch.pods.gaps == {}
        assert containers(cluster.pods("-l", "app=web")) == before


def test_uninstalling_leaves_the_trees_as_before(cluster: Bed) -> None:
    """Byte for byte, with owner, mode and what is enabled."""
    before = {node.name: state(node) for node in cluster.nodes}
    cluster.each(install)
    assert all(differing(state(node), before[node.name]) for node in cluster.nodes)
    cluster.each(uninstall)
    after = {node.name: differing(state(node), before[node.name]) for node in cluster.nodes}
    assert after == {node.name: set() for node in cluster.nodes}


def test_a_restart_under_load(installed: Bed, tmp_path: Path) -> None:
    """Exec streams and pods outlive `systemctl restart image-cri-shim`; no call is refused.

    A stream of events does not: it is one call without an end, and ends with the process.
    """
    installed.hub.push(images.small("load", 200_000), REPOSITORY, TAG)
    with deployed(installed, "web", NGINX) as pods, watched(installed, "web") as watch:
        before = containers(pods)
        with load(installed, "web", tmp_path, events=False) as going:
            wait_for("calls", lambda: going.answered > 20, 60)
            for node in installed.nodes:
                node.systemctl("restart", "image-cri-shim.service", timeout_s=90)
            answered = going.answered
            wait_for("more calls", lambda: going.answered > answered + 20, 60)
            NOTES.append(f"cluster: restart under load: {going.answered} calls, {going.ticks}")
            assert "\n".join(going.stop()) == ""
        assert containers(installed.pods("-l", "app=web")) == before
    assert watch.nodes.gaps == {}
    assert watch.pods.gaps == {}
