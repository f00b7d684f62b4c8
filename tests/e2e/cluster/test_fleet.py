"""The chart rolls the shim out, upgrades it and takes it back, node by node."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster.conftest import NGINX
from tests.e2e.support.bed import Bed
from tests.e2e.support.cluster_node import ClusterNode
from tests.e2e.support.fleet import CHART, Fleet
from tests.e2e.support.fleet_image import Images, Release
from tests.e2e.support.report import NOTES
from tests.e2e.support.stock_node import HUB
from tests.e2e.support.workload import containers, deployed, restarts, watched

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not CHART.exists(), reason="needs the chart"),
    pytest.mark.skipif(not shutil.which("helm"), reason="needs helm"),
]

OLD, NEW = "1.0.0", "1.1.0"
# How long a node may be on a broken release, by the issue.
BACK_S = 60.0


@pytest.fixture(scope="session")
def fleet_images(built: Bed, tmp_path_factory: pytest.TempPathFactory) -> Images:
    """The chart's image at any version."""
    return Images(built.nodes[0].prefix, tmp_path_factory.mktemp("images"))


@pytest.fixture
def fleet(cluster: Bed, fleet_images: Images, tmp_path: Path) -> Iterator[Fleet]:
    """The chart, not installed; afterwards it is gone, and what it left on nodes too."""
    made = Fleet(cluster, fleet_images, tmp_path)
    yield made
    made.clean()


@pytest.fixture
def rolled_out(fleet: Fleet) -> Fleet:
    """The old version, well on every node."""
    fleet.bring(OLD)
    fleet.apply(OLD)
    fleet.wait_until_healthy(OLD)
    return fleet


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
            started = time.monotonic()
            fleet.uninstall()
            NOTES.append(f"cluster: helm uninstall: {time.monotonic() - started:.0f} s")
        assert containers(fleet.bed.pods("-l", "app=web")) == before
        NOTES.append(f"cluster: helm uninstall: nodes not Ready {watch.nodes.gaps}")
    assert set(fleet.labels().values()) <= {"", "removed"}


def test_a_fresh_install_that_is_broken_touches_one_node(fleet: Fleet) -> None:
    """The node is as before within a minute; the others were never touched."""
    fleet.bring(NEW, Release.DOES_NOT_START)
    fleet.apply(NEW)
    fleet.wait_for("a halt", lambda: bool(fleet.halted()))
    time.sleep(5)
    touched = [name for name, label in fleet.labels().items() if label == f"{NEW}.undone"]
    assert len(touched) == 1, fleet.labels()
    assert fleet.serving() == dict.fromkeys(fleet.serving(), "")


@pytest.mark.parametrize("release", [Release.DOES_NOT_START, Release.ANSWERS_WRONGLY])
def test_a_broken_release_stops_at_one_node(rolled_out: Fleet, release: Release) -> None:
    """That node is on the old version again within a minute; no pod restarts, nobody else moves."""
    fleet = rolled_out
    with deployed(fleet.bed, "web", NGINX) as pods, watched(fleet.bed, "web") as watch:
        before, pids = containers(pods), _processes(fleet.bed)
        fleet.bring(NEW, release)
        fleet.apply(NEW)
        fleet.wait_for("a halt", lambda: bool(fleet.halted()))
        time.sleep(5)
        assert fleet.serving() == dict.fromkeys(fleet.serving(), OLD)
        moved = {name for name, pid in _processes(fleet.bed).items() if pids[name] != pid}
        assert len(moved) <= 1, moved
        assert containers(fleet.bed.pods("-l", "app=web")) == before
    NOTES.append(f"cluster: {release.name}: nodes not Ready {watch.nodes.gaps}")
    assert watch.nodes.worst_s < BACK_S


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


def test_a_reboot(rolled_out: Fleet) -> None:
    """The node comes back with the version that it had, also while API server and hub are away."""
    bed = rolled_out.bed
    with deployed(bed, "web", NGINX):
        bed.plane.stop("kube-apiserver")
        with bed.hub.away():
            bed.nodes[0].reboot()
            wait_healthy(bed.nodes[0])
            bed.plane.start()
            bed.wait_until_ready()
        rolled_out.wait_until_healthy(OLD)
        assert sum(restarts(bed.pods("-l", "app=web")).values()) == 1


def wait_healthy(node: ClusterNode) -> None:
    """Until its shim answers and kubelet uses it."""
    raise NotImplementedError


def _processes(bed: Bed) -> dict[str, str]:
    return {node.name: node.shows("image-cri-shim.service", "MainPID") for node in bed.nodes}
