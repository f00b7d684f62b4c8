"""What befalls nodes and pods of a fleet besides releases; a switch that is killed."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.e2e.cluster.conftest import NEW, NGINX, OLD, needs_helm, processes
from tests.e2e.support import images
from tests.e2e.support.bed import Bed
from tests.e2e.support.cluster_node import KUBELET_CONFIG, ClusterNode
from tests.e2e.support.fleet import BUNDLES, NAMESPACE, Fleet, seldom
from tests.e2e.support.fleet_image import Images
from tests.e2e.support.load import REPOSITORY, TAG, load
from tests.e2e.support.process import wait_for
from tests.e2e.support.report import NOTES
from tests.e2e.support.workload import containers, deployed, restarts, watched

pytestmark = [pytest.mark.cluster, needs_helm]

SWITCH = "image-cri-shim-switch"
ROOM = "/var/lib/image-cri-shim/switch"
# Of one image that is pulled while the nodes are upgraded.
LONG_PULL_S = 120.0
POINTS = 20


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
        there = [p for p in bed.pods("-l", "app=web") if p["spec"]["nodeName"] == name]
        assert list(restarts(there).values()) == [1]


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
            fleet.wait_for("a halt", lambda: bool(fleet.halted()), 240)
            fleet.bed.wait_until_ready()
        NOTES.append(f"cluster: kubelet never returns: nodes not Ready {watch.nodes.gaps}")
        assert len([n for n, label in fleet.labels().items() if label == f"{OLD}.undone"]) == 1
        assert fleet.serving() == dict.fromkeys(fleet.serving(), "")
    finally:
        for node in fleet.bed.nodes:
            node.place(f"{kubelet}.real").rename(node.place(kubelet))


def test_a_switch_that_is_killed_at_any_point(cluster: Bed, fleet_images: Images) -> None:
    """Afterwards the node has the old version or the new one, whole, and kubelet is well."""
    node = cluster.nodes[2]
    versions = (OLD, NEW)
    for version in versions:
        script = fleet_images.script(version).decode()
        node.add(f"{BUNDLES}/{version}/image-cri-shim", script, 0o755)
    try:
        _ask(node, OLD, 0)
        assert _end(node)["phase"] == "healthy"
        ended = []
        for point in range(POINTS):
            now = node.sh(f"readlink {BUNDLES}/current").stdout.strip()
            _ask(node, NEW if now == OLD else OLD, point + 1)
            time.sleep(0.2 + point * 0.6)
            node.run("systemctl", "kill", "--signal=KILL", f"{SWITCH}.service")
            state = _end(node)
            wait_until_served(node)
            assert state["phase"] in {"healthy", "undone"}, state
            ended.append(f"{state['phase']} {state['version']}")
        NOTES.append(f"cluster: a switch killed at {POINTS} points: {ended}")
    finally:
        node.by_hand("uninstall-service", "--now", "--purge", "--force", check=False)
        node.sh(f"rm -rf {BUNDLES} /var/lib/image-cri-shim /etc/image-cri-shim.yaml")


def wait_until_served(node: ClusterNode) -> None:
    """Until its shim answers; kubelet's file leads there."""
    wait_for("the shim", lambda: node.crictl("version").returncode == 0, 90)
    assert "image-cri-shim.sock" in node.place(KUBELET_CONFIG).read_text()


def _switching(fleet: Fleet) -> ClusterNode:
    """The node whose switch runs first."""
    found: list[ClusterNode] = []

    def begun() -> bool:
        for node in fleet.bed.nodes:
            told = node.run("systemctl", "is-active", f"{SWITCH}.service").stdout.strip()
            if told in {"active", "activating"}:
                found.append(node)
        return bool(found)

    wait_for("a switch", begun, 60)
    return found[0]


def _ask(node: ClusterNode, version: str, number: int) -> None:
    """As a pod does it."""
    request = {
        "revision": f"r{number}",
        "version": version,
        "mode": "install",
        "config": "address: http://sealos.hub:5000\nauth: admin:passw0rd\n",
        "wire_runtime": True,
        "wire_kubelet": True,
        "health_s": 20,
        "at": "2026-01-01T00:00:00Z",
    }
    node.add(f"{ROOM}/request.json", json.dumps(request), 0o600)
    command = [f"{BUNDLES}/{version}/image-cri-shim", "switch", "run"]
    node.run(*("systemd-run", f"--unit={SWITCH}", "--collect", "--no-block", *command), check=True)


def _end(node: ClusterNode) -> dict[str, str]:
    """The switch's last word."""

    def over() -> bool:
        states = {
            node.run("systemctl", "is-active", unit).stdout.strip()
            for unit in (f"{SWITCH}.service", "image-cri-shim-undo.service")
        }
        path = node.place(f"{ROOM}/state.json")
        return (
            not states & {"active", "activating"}
            and path.exists()
            and json.loads(path.read_text())["phase"] != "running"
        )

    wait_for("the end of the switch", seldom(over), 120)
    found: dict[str, str] = json.loads(node.place(f"{ROOM}/state.json").read_text())
    return found
