"""What befalls nodes and pods of a fleet besides releases; a switch that is killed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.e2e.cluster.conftest import BACK_S, NEW, NGINX, OLD, needs_helm, processes
from tests.e2e.support import images
from tests.e2e.support.cluster_node import KUBELET_CONFIG, ClusterNode
from tests.e2e.support.fleet import NAMESPACE, Fleet
from tests.e2e.support.load import REPOSITORY, TAG, load
from tests.e2e.support.process import wait_for
from tests.e2e.support.report import NOTES
from tests.e2e.support.switching import BUNDLES, back_s, is_at_work, wait_until_served
from tests.e2e.support.workload import containers, deployed, restarts, watched

pytestmark = [pytest.mark.cluster, needs_helm]

# Of one image that is pulled while the nodes are upgraded.
LONG_PULL_S = float(os.environ.get("E2E_CLUSTER_PULL_S", "120"))


def test_an_upgrade_under_load(rolled_out: Fleet, tmp_path: Path) -> None:
    """Pulls, one of them long, exec streams, calls and watches: none fails, nothing restarts."""
    bed = rolled_out.bed
    big = images.small("big", 4_000_000)
    bed.hub.push(big, "library/big", "1")
    bed.hub.push(images.small("load", 200_000), REPOSITORY, TAG)
    rolled_out.bring(NEW)
    with (
        deployed(bed, "web", NGINX) as pods,
        bed.hub.slow(big, "library/big", LONG_PULL_S),
        watched(bed, "web") as watch,
    ):
        before = containers(pods)
        kubelets = {node.name: node.shows("kubelet.service", "MainPID") for node in bed.nodes}
        with load(bed, "web", tmp_path) as going:
            going.pull(bed.nodes[0], "library/big:1")
            wait_for("calls", lambda: going.answered > 30, 90)
            rolled_out.apply(NEW)
            took_s = rolled_out.wait_until_healthy(NEW)
            going.wait_for_pulls(LONG_PULL_S * 2)
            NOTES.append(
                f"cluster: upgrade under load: {took_s:.0f} s, {going.answered} calls, "
                f"exec streams of {going.ticks} s"
            )
            assert "\n".join(going.stop()) == ""
        assert containers(bed.pods("-l", "app=web")) == before
        assert kubelets == {n.name: n.shows("kubelet.service", "MainPID") for n in bed.nodes}
        # The process of before may still run out of it.
        assert all(node.place(f"{BUNDLES}/{OLD}").exists() for node in bed.nodes)
    assert watch.nodes.gaps == {}
    assert watch.pods.gaps == {}


def test_a_reboot_while_api_server_and_hub_are_away(rolled_out: Fleet) -> None:
    """The node comes back by itself with the version that it had, and its pod runs again."""
    bed = rolled_out.bed
    with deployed(bed, "web", NGINX):
        bed.plane.stop("kube-apiserver")
        with bed.hub.away():
            bed.nodes[0].reboot()
            wait_until_served(bed.nodes[0])
            bed.plane.start()
            bed.wait_until_ready()
        rolled_out.wait_until_healthy(OLD)
        name = bed.nodes[0].name

        def again() -> bool:
            there = [p for p in bed.pods("-l", "app=web") if p["spec"]["nodeName"] == name]
            return list(restarts(there).values()) == [1]

        rolled_out.wait_for("its pod, started again", again)


def test_a_drain(rolled_out: Fleet) -> None:
    """It leaves the node wired, and its pod there."""
    bed, name = rolled_out.bed, rolled_out.bed.nodes[1].name
    before = processes(bed)
    bed.plane.kubectl("drain", name, "--ignore-daemonsets", "--delete-emptydir-data")
    time.sleep(3)
    bed.plane.kubectl("uncordon", name)
    rolled_out.wait_until_healthy(OLD)
    assert processes(bed) == before


def test_a_node_that_is_selected_no_more(rolled_out: Fleet) -> None:
    """Its pod goes; the node goes on as it is."""
    bed = rolled_out.bed
    before = processes(bed)
    chosen = [node.name for node in bed.nodes[:2]]
    bed.plane.kubectl("label", "nodes", *chosen, "shim=yes")
    try:
        rolled_out.apply(OLD, nodeSelector={"shim": "yes"})
        rolled_out.wait_for("two pods", lambda: len(rolled_out.pods()) == len(chosen))
        time.sleep(5)
        assert processes(bed) == before
        rolled_out.apply(OLD)
        rolled_out.wait_for("three pods", lambda: len(rolled_out.pods()) == len(bed.nodes))
        rolled_out.wait_until_healthy(OLD)
    finally:
        bed.plane.kubectl("label", "nodes", *chosen, "shim-")
    assert processes(bed) == before


def test_the_pod_is_killed_in_mid_switch(rolled_out: Fleet) -> None:
    """The node ends its switch by itself, and the roll-out goes on."""
    rolled_out.bring(NEW)
    rolled_out.apply(NEW)
    node = _switching(rolled_out)
    name = rolled_out.pod_on(node)
    rolled_out.bed.plane.kubectl(
        "-n", NAMESPACE, "delete", "pod", name, "--force", "--grace-period=0"
    )
    rolled_out.wait_until_healthy(NEW)


def test_a_kubelet_that_never_returns(fleet: Fleet) -> None:
    """It does not start with the shim: the node is as before soon, and no other moves."""
    kubelet = "/usr/bin/kubelet"
    script = (
        f'#!/bin/sh\ngrep -q image-cri-shim {KUBELET_CONFIG} && exit 1\nexec {kubelet}.real "$@"\n'
    )
    for node in fleet.bed.nodes:
        node.place(kubelet).rename(node.place(f"{kubelet}.real"))
        node.add(kubelet, script, 0o755)
    try:
        fleet.bring(OLD)
        with watched(fleet.bed, "web") as watch:
            fleet.apply(OLD)
            node = fleet.next_asked(dict.fromkeys(fleet.asked(), 0.0))
            took_s = back_s(node, lambda: node.shows("kubelet.service", "ActiveState") == "active")
            fleet.wait_for("a halt", lambda: bool(fleet.halted()), 240)
            fleet.bed.wait_until_ready()
        gaps = watch.nodes.gaps
        NOTES.append(f"cluster: kubelet never returns: back after {took_s:.0f} s, {gaps}")
        assert took_s < BACK_S
        assert len([n for n, label in fleet.labels().items() if label == f"{OLD}.undone"]) == 1
        assert fleet.serving() == dict.fromkeys(fleet.serving(), "")
    finally:
        for node in fleet.bed.nodes:
            node.place(f"{kubelet}.real").rename(node.place(kubelet))


def _switching(fleet: Fleet) -> ClusterNode:
    """The node whose switch runs first."""
    found: list[ClusterNode] = []

    def begun() -> bool:
        found.extend(node for node in fleet.bed.nodes if is_at_work(node))
        return bool(found)

    wait_for("a switch", begun, 60)
    return found[0]
