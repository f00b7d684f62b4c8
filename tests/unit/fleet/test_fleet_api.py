"""The API server's client, over real HTTP."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from shimcore.cluster import server as cluster_server
from shimcore.cluster.errors import (
    ApiUnreachableError,
    ConflictError,
    MissingError,
    RefusedError,
    TooLongError,
)
from shimcore.fleet import api as client
from shimcore.fleet.api import Api, pod_account
from shimcore.fleet.records import Records
from shimcore.fleet.values import FleetError
from shimcore.switch.exchange import Revision
from tests.support.apiserver import TOKEN as CLUSTER_TOKEN
from tests.support.apiserver import StandInApi
from tests.support.fleetapi import LEASES, MAPS, NAMESPACE, NODES, TOKEN, FleetApi, fleet_api
from tests.support.tls import PrivateCA


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(client, "_LONGEST_WAIT_S", 0.05)


@pytest.fixture
def server() -> Iterator[FleetApi]:
    with fleet_api() as started:
        started.prepare()
        started.add_node("n1")
        yield started


@pytest.fixture
async def api(server: FleetApi, tmp_path: Path) -> AsyncIterator[Api]:
    started = Api(server.place(tmp_path))
    yield started
    await started.aclose()


@pytest.fixture
def records(api: Api) -> Records:
    return Records(api, NAMESPACE, "image-cri-shim")


async def test_a_slot_is_one_nodes(records: Records) -> None:
    """Of two who saw it free, the second is told that it changed."""
    first, second = await records.lease(0), await records.lease(0)
    taken = await records.take(first, "n1")
    assert (taken.holder, taken.expired(records.now)) == ("n1", False)
    with pytest.raises(ConflictError):
        await records.take(second, "n2")
    await records.give_back(await records.lease(0))
    assert (await records.lease(0)).holder == ""


async def test_the_clock_is_the_servers(server: FleetApi, records: Records) -> None:
    """The node's own may be wrong by hours."""
    server.offset = timedelta(hours=-31)
    await records.lease(0)
    assert abs((records.now - server.now).total_seconds()) < 3


async def test_labels_are_merged(server: FleetApi, records: Records) -> None:
    """None takes one away; those of others stay."""
    server.add_node("n2", labels={"other": "x"})
    await records.label("n2", {"image-cri-shim.io/state": "a", "image-cri-shim.io/version": "1"})
    await records.label("n2", {"image-cri-shim.io/version": None})
    node = await records.node("n2")
    assert node is not None
    assert node.labels == {"other": "x", "image-cri-shim.io/state": "a"}
    assert await records.node("n3") is None


async def test_halts_keep_their_first_reason(records: Records) -> None:
    """The newest comes first, and there are no more than sixteen."""
    for number in range(20):
        await records.halt(Revision(f"r{number}"), "n1", f"reason {number}")
    await records.halt(Revision("r19"), "n2", "another reason")
    halts = (await records.rollout()).halts
    assert [each.reason for each in halts] == [f"reason {number}" for number in range(19, 3, -1)]


@pytest.mark.parametrize("halts", ["[", "[1]", "5", "[{}]", "[" * 100_000])
async def test_halts_that_cannot_be_read(server: FleetApi, records: Records, halts: str) -> None:
    """Whoever wrote them: the ConfigMap is named, and nothing else ends."""
    server.put(f"{MAPS}/image-cri-shim-rollout", {"data": {"halts": halts}})
    with pytest.raises(FleetError, match=r"roll-out's ConfigMap: `halts` cannot be read"):
        await records.rollout()


async def test_a_halt_is_written_in_spite_of_others(server: FleetApi, records: Records) -> None:
    """Two nodes that fail at once are both kept."""
    conflicts = iter([409, 409])

    def fault(method: str, path: str) -> int | None:
        return next(conflicts, None) if method == "PUT" else None

    server.fault = fault
    await records.halt(Revision("r1"), "n1", "why")
    assert server.halted() == {Revision("r1"): "why"}


async def test_turns_that_were_never_made(server: FleetApi, records: Records) -> None:
    """As where Argo CD leaves them out: it is said."""
    with pytest.raises(FleetError, match=r"slot-99.*Argo CD leaves them out"):
        await records.lease(99)


async def test_nodes_are_counted(server: FleetApi, records: Records) -> None:
    """Those that are for pods, without sending them; those that are well up to three."""
    for number in range(200):
        server.add_node(f"w{number:03}", labels={"image-cri-shim.io/revision": "r1"})
    server.scheduled = 20
    assert await records.count_nodes() == 20
    assert await records.count_well(Revision("r1")) == 3
    assert await records.count_well(Revision("r2")) == 0


@pytest.mark.parametrize("status", [403, 404])
async def test_all_nodes_are_counted(server: FleetApi, records: Records, status: int) -> None:
    """Where the pods' DaemonSet cannot be read, as by the roles of 1.0.0's chart."""
    for number in range(199):  # and the one that there is
        server.add_node(f"w{number:03}")
    server.fault = lambda _, path: status if "/daemonsets/" in path else None
    assert await records.count_nodes() == 200


async def test_who_is_left_is_found_on_any_page(server: FleetApi, records: Records) -> None:
    """A worker that is dead is nobody; one that was away for a moment is."""
    wanted = await records.wanted()
    for number in range(100):
        server.add_node(f"dead{number:03}")
        server.set_ready(f"dead{number:03}", False, ago_s=400)
    await records.label("n1", {"image-cri-shim.io/revision": "r1"})
    server.add_node("zz-control", control_plane=True)
    assert await records.first_left(wanted, workers=True) is None
    assert await records.first_left(wanted) == "zz-control"
    server.set_ready("dead050", False, ago_s=10)
    assert await records.first_left(wanted, workers=True) == "dead050"


def _limits(server: FleetApi) -> list[str]:
    """How many objects each list was to have at most."""
    return [limit for _, path in server.asked for limit in re.findall(r"limit=(\d+)", path)]


async def test_nodes_that_are_large(
    server: FleetApi, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They come in smaller pages, down to one node each; one that is too large is said at once."""
    monkeypatch.setattr(cluster_server, "LIMIT_BYTES", 20_000)
    for number in range(40):
        server.add_node(f"w{number:02}")
        large = {"nodeInfo": "x" * (9_000 if number >= 20 else 10)}
        server.put(f"{NODES}/w{number:02}", {**server.objects[f"{NODES}/w{number:02}"], **large})
    names = [node.name async for node in records.each("")]
    assert names == ["n1", *(f"w{number:02}" for number in range(40))]
    assert _limits(server) == ["16", "16", "8", "4", "4", *["2"] * 11]
    server.put(f"{NODES}/w39", {"metadata": {}, "padding": "x" * 20_000})
    server.asked.clear()
    with pytest.raises(TooLongError):
        [node async for node in records.each("")]
    assert _limits(server) == [*["2"] * 21, "1"]


async def test_passing_faults_are_tried_again(server: FleetApi, records: Records) -> None:
    """503 and 429; a refusal is not."""
    codes = iter([503, 429])
    server.fault = lambda method, path: next(codes, None)
    assert (await records.lease(0)).holder == ""
    server.fault = lambda method, path: 403
    server.asked.clear()
    with pytest.raises(RefusedError, match="403"):
        await records.lease(0)
    assert len(server.asked) == 1


async def test_a_server_that_is_away(server: FleetApi, records: Records) -> None:
    """Is said so after some tries, and asked as before when it is back."""
    server.stop()
    with pytest.raises(ApiUnreachableError, match=r"127\.0\.0\.1"):
        await records.lease(0)
    server.start()
    assert (await records.lease(0)).holder == ""


async def test_what_is_not_there(api: Api) -> None:
    """404 is an error of its own."""
    with pytest.raises(MissingError):
        await api.get(f"{LEASES}/none")


async def test_the_token_is_read_anew(server: FleetApi, api: Api, tmp_path: Path) -> None:
    """kubelet replaces it; it is in no error."""
    (tmp_path / "token").write_text("old")
    with pytest.raises(RefusedError, match="401") as caught:
        await api.get(f"{NODES}/n1")
    assert "old" not in str(caught.value)
    (tmp_path / "token").write_text(TOKEN)
    assert (await api.get(f"{NODES}/n1"))["metadata"]["name"] == "n1"
    (tmp_path / "token").unlink()
    with pytest.raises(ApiUnreachableError, match="token"):
        await api.get(f"{NODES}/n1")


async def test_the_authority_is_read_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """kubelet replaces it where the cluster's is rotated; one that is no certificate is passed
    over."""
    folders = [tmp_path / name for name in ("pod", "first", "second")]
    for folder in folders:
        folder.mkdir()
    pod, first, second = folders[0], *map(PrivateCA, folders[1:])
    server = StandInApi(tls=first.issue("127.0.0.1").context())
    await server.start()
    (pod / "ca.crt").write_bytes(first.ca_file.read_bytes())
    (pod / "token").write_text(CLUSTER_TOKEN)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", server.url.rpartition(":")[2])
    api = Api(pod_account(pod))
    path, query = MAPS, {"fieldSelector": "metadata.name=image-cri-shim"}
    await api.get(path, query)
    await server.stop()
    server.tls = second.issue("127.0.0.1").context()
    await server.start()
    for told in (first.ca_file.read_bytes(), b"half"):
        (pod / "ca.crt").write_bytes(told)
        with pytest.raises(ApiUnreachableError, match="TLS: "):
            await api.get(path, query)
    (pod / "ca.crt").write_bytes(second.ca_file.read_bytes())
    await api.get(path, query)
    await api.aclose()
    await server.stop()


async def test_an_answer_has_its_bounds(
    server: FleetApi, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is longer than an object can be is not read to its end."""
    monkeypatch.setattr(cluster_server, "LIMIT_BYTES", 1000)
    server.put(f"{NODES}/n1", {"metadata": {}, "padding": "x" * 2000})
    with pytest.raises(ApiUnreachableError, match="too long"):
        await api.get(f"{NODES}/n1")


@pytest.mark.parametrize(
    ("host", "url"), [("10.0.0.1", "https://10.0.0.1:6443"), ("fd00::1", "https://[fd00::1]:6443")]
)
def test_a_pod_finds_the_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, host: str, url: str
) -> None:
    """As kubelet says it; IPv6 in brackets."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    with pytest.raises(FleetError, match=r"ca\.crt"):
        pod_account(tmp_path)
    PrivateCA(tmp_path).ca_file.rename(tmp_path / "ca.crt")
    assert pod_account(tmp_path).server == url
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    with pytest.raises(FleetError, match="in a pod of the chart"):
        pod_account(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("mode", "upgrade"), ("revision", ""), ("revision", "a.b"), ("wave", "0"), ("soak", "2")],
)
async def test_a_wish_that_cannot_be(
    server: FleetApi, records: Records, key: str, value: str
) -> None:
    """Is an error that names the key; nobody begins anything by it."""
    server.want("r1", **{"mode": "install", key: value} if key != "revision" else {})
    if key == "revision":
        server.want(value)
    with pytest.raises(FleetError, match=key):
        await records.wanted()
