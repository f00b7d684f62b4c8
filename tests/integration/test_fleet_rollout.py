"""Pods of a roll-out over real HTTP, on nodes whose switch is scripted."""

from __future__ import annotations

import asyncio
import json
import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from shimcore.fleet import agent, slots, steps
from shimcore.fleet.records import CONTROL_PLANE, ETCD, REVISION_LABEL, STATE_LABEL
from shimcore.switch.exchange import Revision
from tests.integration.fleet_support import AtOnce, api, fast, fleet, healthy, until
from tests.support.fleetapi import LEASES, MAPS, NODES, FleetApi
from tests.support.fleetnode import FOLDER, FleetNode

__all__ = ["api", "fast"]


async def test_a_fleet_is_installed(api: FleetApi, tmp_path: Path) -> None:
    """Every node, one at a time until three are well, control planes last; slots are free again."""
    seen = AtOnce()
    async with fleet(tmp_path, api, ["cp", "n1", "n2", "n3", "n4"], 1) as nodes:
        for node in nodes:
            node.switch.watching = seen.of(node.name)
            node.start()
        await until(lambda: healthy(nodes))
        await until(lambda: api.holders() == {} and all(n.ready_file.exists() for n in nodes))
    assert seen.most == 1
    assert seen.order[-1] == "cp"
    assert {event["involvedObject"]["name"] for event in api.events()} == {n.name for n in nodes}
    assert all("1.0.0 serves" in node.message_file.read_text() for node in nodes)


async def test_three_well_nodes_open_the_way(api: FleetApi, tmp_path: Path) -> None:
    """After three, as many at once as the wave says."""
    api.want("r1", wave="50")
    seen = AtOnce()
    async with fleet(tmp_path, api, [f"n{number}" for number in range(10)]) as nodes:
        for node in nodes:
            node.switch.watching, node.switch.takes_s = seen.of(node.name), 0.3
            node.start()
        await until(lambda: healthy(nodes))
    assert 1 < seen.most <= 5


@pytest.mark.parametrize("outcome", ["undone", "refused"])
async def test_a_bad_release_stops_at_one_node(api: FleetApi, tmp_path: Path, outcome: str) -> None:
    """The others are not touched; a new revision goes on, on the failed node, too."""
    async with fleet(tmp_path, api, ["n1", "n2", "n3"]) as nodes:
        for node in nodes:
            node.switch.outcome = lambda request: (
                "healthy" if request["revision"].startswith("r2") else outcome
            )
            node.start()
        await until(lambda: api.halted() and api.holders() == {})
        await asyncio.sleep(0.5)
        touched = [node for node in nodes if node.switch.began]
        assert len(touched) == 1
        assert touched[0].labels["state"] == f"1.0.0.{outcome}"
        assert "as the test says" in api.halted()[Revision("r1")]
        assert "as the test says" in touched[0].message_file.read_text()
        assert not any((node.root / "opt").exists() for node in nodes if node not in touched)
        api.want("r2")
        for node in nodes:
            await node.kill()
            node.start("r2", "1.0.1")
        await until(lambda: healthy(nodes, "r2", "1.0.1"))


async def test_a_node_that_was_not_ready_before_stops_nobody(
    api: FleetApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is switched, as it may need that to become Ready, and is well when it is."""
    monkeypatch.setattr(steps, "PATIENCE_S", 0.2)
    async with fleet(tmp_path, api, ["n1", "n2", "n3"]) as nodes:
        sick, *others = nodes
        api.set_ready(sick.name, False)
        sick.start()
        await until(lambda: sick.switch.began and api.holders() == {})
        for node in others:
            node.start()
        await until(lambda: healthy(others))
        assert not api.halted()
        api.set_ready(sick.name, True)
        await until(lambda: healthy(nodes))


async def test_the_parts_of_a_control_plane_come_last(api: FleetApi, tmp_path: Path) -> None:
    """One at a time: etcd's nodes of k3s and RKE2, too, whose members are restarted."""
    api.want("r1", wave="100")
    seen = AtOnce()
    async with fleet(tmp_path, api, ["e1", "e2", "e3", "n1", "n2", "n3", "n4"]) as nodes:
        for node in nodes:
            if node.name.startswith("e"):
                api.put(f"{NODES}/{node.name}", {"metadata": {"labels": {ETCD: "true"}}})
                api.set_ready(node.name, True)
                node.switch.watching, node.switch.takes_s = seen.of(node.name), 0.3
            node.start()
        await until(lambda: healthy(nodes))
    assert seen.most == 1
    workers = [node.switch.began for node in nodes[3:]]
    assert all(workers)


async def test_the_nodes_file_comes_with_its_revision(api: FleetApi, tmp_path: Path) -> None:
    """No slot is taken while kubelet shows the file of another; then the switch is given it."""
    api.want("r1", nodeFile="true")
    async with fleet(tmp_path, api, ["n1"]) as (node,):
        shown = [node.folder / name for name in ("..old", "..new")]
        for folder, revision in zip(shown, ("r0", "r1"), strict=True):
            folder.mkdir()
            (folder / "image-cri-shim.yaml").write_text(f"address: {revision}\n")
            (folder / "revision").write_text(revision)
        node.node_file.symlink_to(shown[0] / "image-cri-shim.yaml")
        node.start()
        await asyncio.sleep(0.5)
        assert not node.switch.began
        assert not api.holders()
        node.node_file.unlink()
        node.node_file.symlink_to(shown[1] / "image-cri-shim.yaml")
        await until(lambda: healthy([node]))
        request = json.loads((node.root / FOLDER / "request.json").read_text())
        assert request["config"] == "address: r1\n"


async def test_a_pod_of_an_old_revision_begins_nothing(api: FleetApi, tmp_path: Path) -> None:
    """Its successor will, however long the old one lives."""
    api.want("r2")
    async with fleet(tmp_path, api, ["n1"]) as (node,):
        node.start("r1")
        await asyncio.sleep(0.5)
        assert node.switch.began == []
        assert not node.ready_file.exists()


async def test_a_pod_killed_in_mid_switch_changes_nothing(api: FleetApi, tmp_path: Path) -> None:
    """The slot stays the node's, nobody else begins, and the next pod goes on."""
    async with fleet(tmp_path, api, ["n1", "n2"]) as (first, second):
        first.switch.takes_s = 1.0
        first.start()
        await until(lambda: first.switch.began)
        await first.kill()
        second.start()
        await asyncio.sleep(0.3)
        assert second.switch.began == []
        assert api.holders() == {0: "n1"}
        first.start()
        await until(lambda: healthy([first, second]))
        assert len(first.switch.began) == 1


@pytest.mark.parametrize("fault", ["cannot be started", "said nothing", "the image is damaged"])
async def test_a_switch_that_never_was_halts(
    api: FleetApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """The slot is not kept in silence: everybody would wait for this node."""
    monkeypatch.setattr(agent, "_SILENT_S", 0.1)
    async with fleet(tmp_path, api, ["n1"]) as (node,):
        if fault == "cannot be started":
            node.switch.refuses = "Failed to connect to bus"
        elif fault == "said nothing":
            node.switch.dies = True
        node.start()
        if fault == "the image is damaged":
            (tmp_path / "n1/bundle-1.0.0/image-cri-shim").write_bytes(b"x")
        await until(lambda: api.halted() and api.holders() == {})
        assert fault in api.halted()[Revision("r1")]
        assert fault in node.message_file.read_text()


async def test_wiring_that_does_not_last_halts(
    api: FleetApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node is not switched again and again while somebody else undoes it each time."""
    monkeypatch.setattr(steps, "PATIENCE_S", 0.3)
    async with fleet(tmp_path, api, ["n1"]) as (node,):
        path = node.root / "var/lib/kubelet/config.yaml"
        path.parent.mkdir(parents=True)
        path.write_text("containerRuntimeEndpoint: unix:///run/containerd/containerd.sock\n")
        node.start()
        await until(lambda: api.halted() and api.holders() == {})
        await asyncio.sleep(0.3)
        assert len(node.switch.began) == 1
        assert node.labels["state"] == "1.0.0.unwired"


async def test_a_node_without_a_turn_is_not_touched(api: FleetApi, tmp_path: Path) -> None:
    """Not a folder is made before its slot is taken."""
    async with fleet(tmp_path, api, ["n1", "n2"]) as (first, second):
        first.switch.takes_s = 60
        first.start()
        await until(lambda: first.switch.began)
        second.start()
        await until(lambda: second.labels.get("state") == "waiting")
        await asyncio.sleep(0.3)
        assert sorted(path.name for path in second.root.iterdir()) == ["etc", "run", "usr"]


async def gone_in_mid_switch(node: FleetNode, api: FleetApi) -> None:
    """It has taken a slot and begun, and is heard of no more."""
    node.switch.outcome = lambda request: "silence"
    node.start()
    await until(lambda: node.switch.began)
    await node.kill()
    api.set_ready(node.name, False)


async def test_a_holder_that_dies_early_halts(api: FleetApi, tmp_path: Path) -> None:
    """While fewer than three are well, a node that goes away with a slot is a warning."""
    async with fleet(tmp_path, api, ["n1", "n2"]) as (first, second):
        await gone_in_mid_switch(first, api)
        second.start()
        await asyncio.sleep(0.3)
        assert api.halted() == {}
        api.offset += timedelta(seconds=slots.LEASE_S + 1)
        await until(api.halted)
        assert second.switch.began == []


async def test_a_holder_that_died_halts_once(api: FleetApi, tmp_path: Path) -> None:
    """Its slot could not be freed then: the next revision takes that, and is not halted, too."""

    def fault(method: str, path: str) -> int | None:
        return 500 if method == "PATCH" and path.startswith(LEASES) and api.halted() else None

    async with fleet(tmp_path, api, ["n1", "n2"]) as (first, second):
        await gone_in_mid_switch(first, api)
        api.offset += timedelta(seconds=slots.LEASE_S + 1)
        api.fault = fault
        second.start()
        await until(api.halted)
        await second.kill()
        api.fault = lambda method, path: None
        assert api.holders() == {0: "n1"}
        api.want("r2")
        second.start("r2")
        await until(lambda: healthy([second], "r2"))
        assert set(api.halted()) == {"r1"}


@pytest.mark.parametrize("lost_before", [0, 1])
async def test_a_holder_that_dies_late(api: FleetApi, tmp_path: Path, lost_before: int) -> None:
    """When three are well, one that goes away in mid-switch is chance; a second one is not."""
    async with fleet(tmp_path, api, ["n1", "n2"]) as (first, second):
        for number in range(4):
            api.add_node(f"well{number}", labels={REVISION_LABEL: "r1"})
        for number in range(lost_before):
            api.add_node(f"lost{number}", labels={STATE_LABEL: "1.0.0.switching"})
            api.set_ready(f"lost{number}", False)
        map_of = f"{MAPS}/image-cri-shim-rollout"
        api.put(map_of, {"data": {"enough": "r1"}})
        await gone_in_mid_switch(first, api)
        api.offset += timedelta(seconds=slots.LEASE_S + 1)
        second.start()
        await until(lambda: api.halted() or second.switch.began)
        assert bool(api.halted()) == bool(lost_before)


async def test_wiring_that_is_lost_is_done_anew(api: FleetApi, tmp_path: Path) -> None:
    """kubeadm writes kubelet's file as it was: the node takes a slot and switches again."""
    kubelet = "var/lib/kubelet/config.yaml"
    async with fleet(tmp_path, api, ["n1"]) as (node,):
        path = node.root / kubelet
        path.parent.mkdir(parents=True)
        wired = "containerRuntimeEndpoint: unix:///var/run/image-cri-shim.sock\n"
        path.write_text(wired)
        node.start()
        await until(lambda: healthy([node]) and api.holders() == {})

        def wire(what: str) -> None:
            path.write_text(wired)

        node.switch.watching = wire
        path.write_text("containerRuntimeEndpoint: unix:///run/containerd/containerd.sock\n")
        await until(lambda: len(node.switch.began) == 2)
        await until(lambda: healthy([node]) and api.holders() == {})
        runs = [request["revision"] for request in node.switch.began]
        assert runs[0] == "r1"
        assert runs[1].startswith("r1.")


async def test_an_old_version_stays_while_a_process_may_run_out_of_it(
    api: FleetApi, tmp_path: Path
) -> None:
    """Two upgrades later it is still there; when the last is long ago, the pod takes it away."""
    async with fleet(tmp_path, api, ["n1"]) as (node,):
        place = node.root / "opt/image-cri-shim"
        link = place / "current"
        for number, version in enumerate(("1.0.0", "1.1.0", "1.2.0"), 1):
            api.want(f"r{number}")
            node.start(f"r{number}", version)
            await until(lambda: healthy([node], f"r{number}", version))  # noqa: B023
            link.unlink(missing_ok=True)
            link.symlink_to(version)
            await asyncio.sleep(0.5)
            if version != "1.2.0":
                await node.kill()
        assert sorted(os.listdir(place)) == ["1.0.0", "1.1.0", "1.2.0", "current"]
        long_ago = time.time() - 3600
        os.utime(link, (long_ago, long_ago), follow_symlinks=False)
        await until(lambda: not (place / "1.0.0").exists())
        assert sorted(os.listdir(place)) == ["1.1.0", "1.2.0", "current"]


@pytest.mark.parametrize("system", ["talos", "bottlerocket", "no systemd"])
async def test_where_it_does_not_belong(api: FleetApi, tmp_path: Path, system: str) -> None:
    """Nothing is touched, the node says so, and the pod is Ready."""
    async with fleet(tmp_path, api, ["n1"]) as (node,):
        if system == "no systemd":
            (node.root / "run/systemd/system").rmdir()
        else:
            (node.root / "etc/os-release").write_text(f"ID={system}\n")
        node.start()
        await until(lambda: node.labels.get("state") == "unsupported" and node.ready_file.exists())
        await asyncio.sleep(0.2)
        assert node.switch.began == []
        assert not (node.root / "opt").exists()
        assert not (node.root / FOLDER).exists()


async def test_a_package_is_in_the_way(api: FleetApi, tmp_path: Path) -> None:
    """A node with the .deb is refused before it takes a slot, and halts nobody."""
    async with fleet(tmp_path, api, ["n1", "n2"]) as (first, second):
        (first.root / "usr/lib/systemd/system/image-cri-shim.service").write_text("[Unit]\n")
        first.start()
        await until(lambda: first.labels.get("state") == "1.0.0.refused")
        second.start()
        await until(lambda: healthy([second]))
        assert first.switch.began == []
        assert not first.ready_file.exists()
        assert api.halted() == {}


async def test_the_api_server_may_be_away(api: FleetApi, tmp_path: Path) -> None:
    """A switch goes on without it, and is recorded when it is back."""
    async with fleet(tmp_path, api, ["n1"]) as (node,):
        node.switch.takes_s = 0.3
        node.start()
        await until(lambda: node.switch.began)
        api.fault = lambda method, path: 503
        await asyncio.sleep(1)
        api.fault = lambda method, path: None
        await until(lambda: healthy([node]) and api.holders() == {}, 60)
        assert len(node.switch.began) == 1


async def test_what_a_look_costs(api: FleetApi, tmp_path: Path) -> None:
    """One request at rest; three while another node has the turn, none of them for the nodes."""
    async with fleet(tmp_path, api, ["n1", "n2"]) as (first, second):
        first.start()
        await until(lambda: healthy([first]) and api.holders() == {})
        await asyncio.sleep(0.2)
        api.asked.clear()
        await asyncio.sleep(0.5)
        assert {path for _, path in api.asked} == {f"{MAPS}/image-cri-shim-fleet"}
        await first.kill()
        first.switch.outcome = lambda request: "silence"
        api.want("r2")
        first.start("r2")
        await until(lambda: len(first.switch.began) == 2)
        await first.kill()
        waiting = second.agent("r2")
        await waiting._turn()
        api.asked.clear()
        await waiting._turn()
        assert len(api.asked) == 3
        assert not [path for _, path in api.asked if path.startswith(NODES)]


async def test_a_new_control_plane(api: FleetApi, tmp_path: Path) -> None:
    """It is no worker by the time of its turn, though its label came after its pod."""
    async with fleet(tmp_path, api, ["n1", "cp"]) as (worker, late):
        worker.switch.takes_s = 0.5
        waiting = late.agent()
        await waiting._turn()  # before it has its label
        api.put(f"{NODES}/cp", {"metadata": {"labels": {CONTROL_PLANE: ""}}})
        api.set_ready("cp", True)
        for _ in range(10):
            await waiting._turn()
        assert late.switch.began == []
        worker.start()
        await until(lambda: healthy([worker]))
        late.start()
        await until(lambda: healthy([late]))


async def test_a_slot_that_was_cleared_is_taken_back(api: FleetApi, tmp_path: Path) -> None:
    """As by `helm upgrade --force`: nobody else begins while its holder still switches."""
    async with fleet(tmp_path, api, ["n1", "n2"]) as (first, second):
        first.switch.takes_s = 60
        working, waiting = first.agent(), second.agent()
        while not first.switch.began:
            await working._turn()
        api.put(f"{LEASES}/image-cri-shim-slot-0", {"spec": {}})
        working._queue._renewed -= slots.RENEW_S
        await working._turn()
        for _ in range(5):
            await waiting._turn()
        assert api.holders() == {0: "n1"}
        assert second.switch.began == []


async def test_clocks_of_api_servers_differ(api: FleetApi, tmp_path: Path) -> None:
    """A slot that its holder renews is not taken, whatever the time is said to be."""
    async with fleet(tmp_path, api, ["n1", "n2"]) as (first, second):
        first.switch.takes_s = 60
        first.start()
        await until(lambda: first.switch.began)
        waiting = second.agent()
        for hours in (1, -1) * 10:
            lease = api.objects[f"{LEASES}/image-cri-shim-slot-0"]
            api.put(f"{LEASES}/image-cri-shim-slot-0", lease)  # as renewed
            api.offset = timedelta(hours=hours)
            await waiting._turn()
            await asyncio.sleep(0.05)
        assert second.switch.began == []
        assert api.halted() == {}
        assert api.holders() == {0: "n1"}
