"""The chart rolls the shim out, upgrades it and takes it back, node by node."""

from __future__ import annotations

import json
import time

import pytest

from tests.e2e.cluster.conftest import BROKEN, NEW, NGINX, OLD, needs_helm, processes
from tests.e2e.support.fleet import Fleet
from tests.e2e.support.fleet_image import Release
from tests.e2e.support.report import NOTES
from tests.e2e.support.stock_node import HUB
from tests.e2e.support.workload import containers, deployed, watched

pytestmark = [pytest.mark.cluster, needs_helm]

# How long a node may be on a broken release, by the issue.
BACK_S = 60.0


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
    version = BROKEN[Release.DOES_NOT_START]
    fleet.bring(version, Release.DOES_NOT_START)
    fleet.apply(version)
    fleet.wait_for("a halt", lambda: bool(fleet.halted()))
    time.sleep(5)
    touched = [name for name, label in fleet.labels().items() if label == f"{version}.undone"]
    assert len(touched) == 1, fleet.labels()
    assert fleet.serving() == dict.fromkeys(fleet.serving(), "")


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_release_stops_at_one_node(rolled_out: Fleet, broken: Release) -> None:
    """That node is on the old version again within a minute; no pod restarts, nobody else moves."""
    fleet = rolled_out
    with deployed(fleet.bed, "web", NGINX) as pods, watched(fleet.bed, "web") as watch:
        before, pids = containers(pods), processes(fleet.bed)
        fleet.bring(BROKEN[broken], broken)
        fleet.apply(BROKEN[broken])
        fleet.wait_for("a halt", lambda: bool(fleet.halted()))
        time.sleep(5)
        assert fleet.serving() == dict.fromkeys(fleet.serving(), OLD)
        moved = {name for name, pid in processes(fleet.bed).items() if pids[name] != pid}
        assert len(moved) <= 1, moved
        assert containers(fleet.bed.pods("-l", "app=web")) == before
    NOTES.append(f"cluster: {broken.name}: nodes not Ready {watch.nodes.gaps}")
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
