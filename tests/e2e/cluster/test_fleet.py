"""The chart rolls the shim out, upgrades it and takes it back, node by node."""

from __future__ import annotations

import json
import subprocess
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster.conftest import BACK_S, NEW, NGINX, OLD, needs_helm, processes
from tests.e2e.support.cluster_node import ClusterNode
from tests.e2e.support.fleet import Fleet
from tests.e2e.support.fleet_image import NAME, Release
from tests.e2e.support.hub import LOGIN
from tests.e2e.support.packages import built
from tests.e2e.support.report import NOTES
from tests.e2e.support.stock_node import HUB, HUB_PORT
from tests.e2e.support.switching import BUNDLES, back_s, is_served, kubelet_starts, state
from tests.e2e.support.systemd_tree import PROJECT
from tests.e2e.support.workload import containers, deployed, watched

pytestmark = [pytest.mark.cluster, needs_helm]

# A kubelet that ends at its start is started again after 10 s.
STEADY_S = 15.0
# What is wrong with a release: its program, or its configuration.
ADDRESS = {"address": f"http://{HUB}:{HUB_PORT}", "auth": LOGIN}
FAULTS: dict[str, tuple[str, Release, dict[str, Any]]] = {
    "does not start": ("1.1.1", Release.DOES_NOT_START, ADDRESS),
    "answers wrongly": ("1.1.2", Release.ANSWERS_WRONGLY, ADDRESS),
    "unknown key": (NEW, Release.GOOD, {**ADDRESS, "adress": "http://elsewhere"}),
    "no such runtime": (NEW, Release.GOOD, {**ADDRESS, "cri": "/run/none.sock"}),
}


def test_from_nothing_to_a_deployment_and_back(fleet: Fleet) -> None:
    """Pods of the hub's image run on all nodes, and outlive the uninstallation."""
    fleet.bring(OLD)
    fleet.apply(OLD)
    took_s = fleet.wait_until_healthy(OLD)
    NOTES.append(f"cluster: helm install: three nodes healthy after {took_s:.0f} s")
    with deployed(fleet.bed, "web", NGINX) as pods:
        assert {pod["spec"]["nodeName"] for pod in pods} == {n.name for n in fleet.bed.nodes}
        assert HUB not in json.dumps([pod["status"] for pod in pods])
        before = containers(pods)
        with watched(fleet.bed, "web") as watch:
            began = time.time()
            fleet.uninstall()
            NOTES.append(f"cluster: helm uninstall: {time.time() - began:.0f} s")
            time.sleep(STEADY_S)
        starts = {node.name: kubelet_starts(node, began) for node in fleet.bed.nodes}
        NOTES.append(f"cluster: helm uninstall: kubelet started {starts}")
        assert starts == dict.fromkeys(starts, 1)
        assert watch.nodes.gaps == {}
        assert containers(fleet.bed.pods("-l", "app=web")) == before
    assert set(fleet.labels().values()) <= {"", "removed"}


def test_a_fresh_install_that_is_broken_touches_one_node(fleet: Fleet) -> None:
    """The node is as before within a minute; the others were never touched."""
    version, release, _ = FAULTS["does not start"]
    fleet.bring(version, release)
    before = fleet.asked()
    fleet.apply(version)
    node = fleet.next_asked(before)
    took_s = back_s(node, lambda: fleet.serving()[node.name] == "")
    NOTES.append(f"cluster: a fresh install that is broken: back after {took_s:.0f} s")
    assert took_s < BACK_S
    fleet.wait_for("a halt", lambda: bool(fleet.halted()))
    time.sleep(5)
    touched = [name for name, label in fleet.labels().items() if label == f"{version}.undone"]
    assert len(touched) == 1, fleet.labels()
    assert fleet.serving() == dict.fromkeys(fleet.serving(), "")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_release_stops_at_one_node(rolled_out: Fleet, fault: str) -> None:
    """That node is on the old version again within a minute; no pod restarts, nobody else moves."""
    fleet, (version, release, config) = rolled_out, FAULTS[fault]
    with deployed(fleet.bed, "web", NGINX) as pods, watched(fleet.bed, "web") as watch:
        running, pids, asked = containers(pods), processes(fleet.bed), fleet.asked()
        fleet.bring(version, release)
        fleet.apply(version, config=config)
        node = fleet.next_asked(asked)
        took_s = back_s(node, lambda: fleet.serving()[node.name] == OLD and is_served(node))
        fleet.wait_for("a halt", lambda: bool(fleet.halted()))
        time.sleep(10)
        gaps = watch.nodes.gaps
        NOTES.append(f"cluster: {fault}: back after {took_s:.0f} s, nodes not Ready {gaps}")
        assert took_s < BACK_S
        assert fleet.asked_since(asked) == [node]
        assert fleet.serving() == dict.fromkeys(fleet.serving(), OLD)
        moved = {name for name, pid in processes(fleet.bed).items() if pids[name] != pid}
        assert moved <= {node.name}
        assert containers(fleet.bed.pods("-l", "app=web")) == running
    assert gaps == {}


def test_an_upgrade_while_the_hub_is_away(rolled_out: Fleet) -> None:
    """One node at a time; the hub's absence halts nothing."""
    rolled_out.bring(NEW)
    seen = []
    with rolled_out.bed.hub.away():
        rolled_out.apply(NEW)
        deadline = time.monotonic() + 180
        while set(rolled_out.serving().values()) != {NEW} and time.monotonic() < deadline:
            seen.append(rolled_out.labels())
            time.sleep(0.5)
        rolled_out.wait_until_healthy(NEW, 60)
        assert not rolled_out.halted()
    switching = [sum(each.endswith("switching") for each in one.values()) for one in seen]
    assert max(switching) <= 1


def test_control_planes_are_last(fleet: Fleet) -> None:
    """The one there is begins when both others are well, at an installation and at an upgrade."""
    name, label = fleet.bed.nodes[0].name, "node-role.kubernetes.io/control-plane"
    fleet.bed.plane.kubectl("label", "node", name, f"{label}=")
    try:
        for version in (OLD, NEW):
            fleet.bring(version)
            fleet.apply(version)
            fleet.wait_until_healthy(version)
            asked = fleet.asked()
            last = asked.pop(name)
            NOTES.append(
                f"cluster: {version}: control plane {last - max(asked.values()):.0f} s later"
            )
            assert max(asked.values()) < last
            assert all(_well_since(node) < last for node in fleet.bed.nodes[1:])
    finally:
        fleet.bed.plane.kubectl("label", "node", name, f"{label}-")


def _well_since(node: ClusterNode) -> float:
    return datetime.fromisoformat(state(node)["at"]).timestamp()


def test_the_image_itself(fleet: Fleet, tmp_path: Path) -> None:
    """As `make image` builds it, brought to the nodes as docs/fleet.md has it, and taken back."""
    (tarball,) = built().glob("image-cri-shim-*-linux-*.tar.gz")
    subprocess.run([PROJECT / "packaging/image", tarball, tmp_path], check=True)
    (archive,) = tmp_path.glob("*.oci.tar")
    version = archive.name.split("-")[3]
    fleet.bring(OLD)  # with it the pause image
    pinned = "io.cri-containerd.pinned=pinned"

    def load(node: ClusterNode) -> None:
        node.load(archive)
        node.sh(f"ctr -n k8s.io images label {NAME}:{version} {pinned}")

    fleet.bed.each(load)
    fleet.apply(version)
    took_s = fleet.wait_until_healthy(version)
    NOTES.append(f"cluster: the image itself: healthy after {took_s:.0f} s")
    with deployed(fleet.bed, "web", NGINX):
        for node in fleet.bed.nodes:
            command = f"{BUNDLES}/current/image-cri-shim"
            assert node.sh(f"{command} --version").stdout.split()[-1] == version
            assert node.sh(f"{command} status", check=False).returncode == 0
    fleet.uninstall()
    for node in fleet.bed.nodes:
        node.sh(f"ctr -n k8s.io images rm {NAME}:{version}")
