"""The roll-out's pods before a real kube-apiserver, with the chart's own rights and policy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from shimcore.cluster.errors import ConflictError, RefusedError
from shimcore.cluster.kubeconfig import Kubeconfig
from shimcore.fleet import agent, removal, slots
from shimcore.fleet.api import Api
from shimcore.fleet.records import STATE_LABEL, Records
from shimcore.switch.exchange import Revision
from tests.e2e.support.kubernetes import Cluster, missing
from tests.support.fleetapi import FleetApi
from tests.support.fleetnode import FleetNode

pytestmark = [
    pytest.mark.apiserver,
    pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}"),
]

MANIFESTS = Path(__file__).parents[2] / "contrib/kubernetes/fleet/fleet.yaml"
SYSTEM = "/api/v1/namespaces/kube-system"
PODS = "/apis/apps/v1/namespaces/kube-system/daemonsets/image-cri-shim"
NODES = ("cp", "n1", "n2", "n3")
PLURALS = {
    "NetworkPolicy": "networkpolicies",
    "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    started = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        started.start()
        with started.client(started.admin) as client:
            for tree in yaml.safe_load_all(MANIFESTS.read_text()):
                _create(client, tree)
            for name in NODES:
                _add_node(client, name)
            _patch_status(client, PODS, {"desiredNumberScheduled": len(NODES)})
        yield started
    finally:
        started.close()


def _create(client: httpx.Client, tree: dict[str, Any]) -> None:
    """Create an object where its kind is kept; what the API does not know of it is a fault."""
    kind, version, metadata = tree["kind"], tree["apiVersion"], tree["metadata"]
    root = "/api/v1" if version == "v1" else f"/apis/{version}"
    place = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
    plural = PLURALS.get(kind, f"{kind.lower()}s")
    answer = client.post(f"{root}{place}/{plural}?fieldValidation=Strict", json=tree)
    assert answer.status_code in {201, 409}, answer.text


def _patch_status(client: httpx.Client, path: str, status: dict[str, Any]) -> None:
    """As a controller would."""
    answer = client.patch(
        f"{path}/status",
        json={"status": status},
        headers={"Content-Type": "application/strategic-merge-patch+json"},
    )
    assert answer.is_success, answer.text


def _add_node(client: httpx.Client, name: str) -> None:
    """A node that is Ready, and a pod of the chart on it."""
    labels = {"kubernetes.io/os": "linux"}
    if name == "cp":
        labels["node-role.kubernetes.io/control-plane"] = ""
    tree = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}
    _create(client, tree)
    condition = {"type": "Ready", "status": "True"}
    _patch_status(client, f"/api/v1/nodes/{name}", {"conditions": [condition]})
    spec = {
        "nodeName": name,
        "serviceAccountName": "image-cri-shim-fleet",
        "containers": [{"name": "fleet", "image": "none"}],
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"fleet-{name}", "namespace": "kube-system"},
        "spec": spec,
    }
    _create(client, pod)


def _place(cluster: Cluster, folder: Path, node: str) -> Kubeconfig:
    """How the pod of a node finds the API server: by a token that is bound to it."""
    with cluster.client(cluster.admin) as client:
        pod = client.get(f"{SYSTEM}/pods/fleet-{node}").json()["metadata"]
    bound = {"kind": "Pod", "apiVersion": "v1", "name": pod["name"], "uid": pod["uid"]}
    return _account(cluster, folder, "image-cri-shim-fleet", {"boundObjectRef": bound})


def _account(cluster: Cluster, folder: Path, name: str, spec: dict[str, Any]) -> Kubeconfig:
    """How who has this ServiceAccount finds the API server."""
    with cluster.client(cluster.admin) as client:
        answer = client.post(f"{SYSTEM}/serviceaccounts/{name}/token", json={"spec": spec})
    assert answer.is_success, answer.text
    token = folder / f"token-{len(list(folder.iterdir()))}"
    token.write_text(answer.json()["status"]["token"])
    authority = Path(cluster.ca.ca_file).read_bytes()
    return Kubeconfig(cluster.url, authority, token_file=str(token))


@pytest.fixture
async def api(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Api]:
    """What the pod on n1 asks."""
    made = Api(_place(cluster, tmp_path, "n1"))
    yield made
    await made.aclose()


@pytest.fixture
def records(api: Api) -> Records:
    return Records(api, "kube-system", "image-cri-shim")


async def _patient(action: Any, *arguments: Any) -> Any:
    """Roles and policies are in force a moment after they were made."""
    for _ in range(50):
        try:
            return await action(*arguments)
        except RefusedError as error:
            if error.status not in {401, 403, 422}:
                raise
            await asyncio.sleep(0.2)
    return await action(*arguments)


async def test_a_slot_is_one_nodes(records: Records) -> None:
    """Of two who saw it free the second is refused; given back, it is free."""
    first = await _patient(records.lease, 63)
    taken = await records.take(first, "n1")
    assert taken.holder == "n1"
    assert not taken.expired(records.now)
    with pytest.raises(ConflictError):
        await records.take(first, "n2")
    await records.give_back(await records.lease(63))
    assert (await records.lease(63)).holder == ""


async def test_halts_are_kept(records: Records) -> None:
    """In the object that the chart made empty."""
    assert (await _patient(records.rollout)).halts == ()
    await records.halt(Revision("bad"), "n1", "why")
    (halt,) = (await records.rollout()).halts
    assert (halt.revision, halt.node, halt.reason) == ("bad", "n1", "why")


async def test_nodes_are_counted_and_told(records: Records, cluster: Cluster) -> None:
    """By the counts of the API itself; an Event is where `kubectl describe node` looks."""
    assert await _patient(records.count_nodes) == len(NODES)
    wanted = await records.wanted()
    assert await records.count_well(wanted.revision) == 0
    assert await records.first_left(wanted, workers=True) == "n1"
    assert await records.first_left(wanted) == "cp"
    await records.tell("n1", "Switched", "it is said", warning=False)
    with cluster.client(cluster.admin) as client:
        events = client.get(
            "/api/v1/namespaces/default/events?fieldSelector=involvedObject.name=n1"
        ).json()["items"]
    assert [event["message"] for event in events] == ["it is said"]


async def test_a_pod_labels_its_own_node_alone(records: Records) -> None:
    """And with the project's labels: the policy says what RBAC cannot."""
    await _patient(records.label, "n1", {"image-cri-shim.io/state": "waiting"})
    for node, label in (("n2", "image-cri-shim.io/state"), ("n1", "other.example/label")):
        with pytest.raises(RefusedError, match="a pod of image-cri-shim changes"):
            await _refused(records, node, {label: "x"})
    with pytest.raises(RefusedError, match="labels image-cri-shim"):
        await records.label("n1", {"kubernetes.io/os": None})
    await records.label("n1", {"image-cri-shim.io/state": None})


async def test_the_hook_changes_labels_alone(cluster: Cluster, tmp_path: Path) -> None:
    """Of every node, and nothing else of one."""
    hook = Api(_account(cluster, tmp_path, "image-cri-shim-remove", {}))
    records = Records(hook, "kube-system", "image-cri-shim")
    for node in NODES:
        await _patient(records.label, node, {"image-cri-shim.io/state": "removed"})
        await records.label(node, {"image-cri-shim.io/state": None})
    with pytest.raises(RefusedError, match="labels image-cri-shim"):
        await records.label("n2", {"kubernetes.io/os": None})
    with pytest.raises(RefusedError, match="labels image-cri-shim"):
        await hook.merge("/api/v1/nodes/n2", {"spec": {"unschedulable": True}})
    await hook.aclose()


async def _refused(records: Records, node: str, labels: dict[str, str | None]) -> None:
    """The same, until the policy is in force."""
    for _ in range(50):
        await records.label(node, labels)
        await records.label(node, dict.fromkeys(labels))
        await asyncio.sleep(0.2)


async def test_what_a_pod_may_not(api: Api) -> None:
    """Taint a node, read Secrets, change the wish, take other Leases, make objects."""
    await _patient(api.get, f"{SYSTEM}/configmaps/image-cri-shim-fleet")
    lease = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
    tries = [
        api.merge("/api/v1/nodes/n1", {"spec": {"unschedulable": True}}),
        api.get(f"{SYSTEM}/secrets/image-cri-shim-node"),
        api.merge(f"{SYSTEM}/configmaps/image-cri-shim-fleet", {"data": {"mode": "remove"}}),
        api.get(lease),
        api.get(f"{lease}/kube-scheduler"),
        api.post(lease, {"metadata": {"name": "x"}}),
        api.post(f"{SYSTEM}/configmaps", {"metadata": {"name": "x"}}),
        api.get("/api/v1/pods"),
    ]
    for each in tries:
        with pytest.raises(RefusedError) as caught:
            await each
        assert caught.value.status in {403, 422}


async def test_a_fleet_is_installed_and_removed(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By pods with the chart's rights, whose nodes have a scripted switch; the hook has its own."""
    monkeypatch.setattr(slots, "_SHORTEST_S", 0.5)
    monkeypatch.setattr(agent, "_SOON_S", 0.2)
    monkeypatch.setattr(agent, "_SOAK_LOOK_S", 0.2)
    with cluster.client(cluster.admin) as client:
        path = f"{SYSTEM}/configmaps/image-cri-shim-fleet"
        wish = client.get(path).json()
        del wish["data"]["nodeFile"]
        wish["data"]["soak"] = "0s"
        assert client.put(path, json=wish).is_success
        stand_in = FleetApi()
        nodes = [FleetNode(tmp_path, name, stand_in) for name in NODES]
        for node in nodes:
            node.asks(Api(_place(cluster, tmp_path, node.name)))
            node.start(wish["data"]["revision"])
        try:
            await _until_healthy(client)
            hook = Api(_account(cluster, tmp_path, "image-cri-shim-remove", {}))
            records = Records(hook, "kube-system", "image-cri-shim")
            async with asyncio.timeout(120):
                await removal.wait(records, await removal.ask(records), look_s=0.5)
            await hook.aclose()
            left = client.get("/api/v1/nodes", params={"labelSelector": STATE_LABEL}).json()
            assert left["items"] == []
        finally:
            for node in nodes:
                await node.kill()
    for turn in (0, 1):
        began = {node.name: node.switch.began[turn]["at"] for node in nodes}
        assert max(began, key=lambda name: began[name]) == "cp"


async def _until_healthy(client: httpx.Client) -> None:
    async with asyncio.timeout(120):
        while True:
            items = (await asyncio.to_thread(client.get, "/api/v1/nodes")).json()["items"]
            states = {i["metadata"]["labels"].get("image-cri-shim.io/state") for i in items}
            done = {i["metadata"]["labels"].get("image-cri-shim.io/revision") for i in items}
            if states == {"1.0.0.healthy"} and None not in done:
                return
            await asyncio.sleep(0.3)
