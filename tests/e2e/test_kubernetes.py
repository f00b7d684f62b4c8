"""The cluster's part from a real kube-apiserver with RBAC, by a node's own credentials."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.support.kubernetes import Cluster, Login, missing
from tests.support.scripted_runtime import ScriptedRuntime, pull_out_of_thin_air
from tests.support.serving import ServeProcess, serving

pytestmark = [
    pytest.mark.apiserver,
    # Not a failure in CI: building an API server takes a quarter of an hour there.
    pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}"),
]

MANIFESTS = Path(__file__).parents[2] / "contrib" / "kubernetes"
PASSWORD = "pa55-w0rd-zx81"
COLLECTIONS = "/api/v1/namespaces/kube-system"
SELECTED = "fieldSelector=metadata.name%3Dimage-cri-shim"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    started = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        started.start()
        yield started
    finally:
        started.close()


@pytest.fixture(scope="module")
def node(cluster: Cluster) -> Login:
    """kubelet's credentials on one node."""
    return cluster.login("system:node:n1", "system:nodes")


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[str]:
    started = ScriptedRuntime(str(tmp_path / "runtime.sock"), puller=pull_out_of_thin_air)
    await started.start()
    yield str(tmp_path / "runtime.sock")
    await started.stop()


def _object(kind: str, text: str) -> dict[str, object]:
    data = base64.b64encode(text.encode()).decode() if kind == "Secret" else text
    return {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {"name": "image-cri-shim", "namespace": "kube-system"},
        "data": {"registries.yaml": data},
    }


async def _command(shim: ServeProcess, *words: str) -> Any:
    done = await shim.run_command(*words, "-o", "json")
    assert PASSWORD not in done.stdout + done.stderr
    return json.loads(done.stdout)


async def _timeout(shim: ServeProcess) -> str:
    values = (await _command(shim, "config", "show"))["values"]
    return str(next(one["value"] for one in values if one["key"] == "timeout"))


async def _until(shim: ServeProcess, timeout: str, within_s: float = 20) -> None:
    try:
        async with asyncio.timeout(within_s):
            while await _timeout(shim) != timeout:
                await asyncio.sleep(0.2)
    except TimeoutError:
        pytest.fail(f"timeout is not {timeout}:\n{shim.log}")


def test_a_node_without_the_role_reads_nothing(cluster: Cluster, node: Login) -> None:
    """The Node authorizer alone grants neither object."""
    with cluster.client(node) as client:
        for plural in ("configmaps", "secrets"):
            assert client.get(f"{COLLECTIONS}/{plural}?{SELECTED}").status_code == 403


def test_what_the_role_grants_and_what_not(cluster: Cluster, node: Login) -> None:
    """Just those two objects, by get, list and watch; nothing beside them, and no writing."""
    cluster.apply_file(MANIFESTS / "rbac.yaml")
    with cluster.client(node) as client:
        for plural in ("configmaps", "secrets"):
            path = f"{COLLECTIONS}/{plural}"
            allowed = [f"{path}?{SELECTED}", f"{path}?{SELECTED}&watch=1&timeoutSeconds=1"]
            assert [client.get(one).status_code for one in allowed] == [200, 200]
            assert client.get(f"{path}/image-cri-shim").status_code == 404
            refused = [
                path,
                f"{path}?watch=1&timeoutSeconds=1",
                f"{path}?fieldSelector=metadata.name%3Dother",
                f"{path}/other",
                f"/api/v1/{plural}?{SELECTED}",
                f"/api/v1/namespaces/default/{plural}?{SELECTED}",
            ]
            assert {client.get(one).status_code for one in refused} == {403}
            assert client.post(path, json=_object("ConfigMap", "x")).status_code == 403
            assert client.delete(f"{path}/image-cri-shim").status_code == 403


def test_who_is_no_node_reads_nothing(cluster: Cluster) -> None:
    """The binding is for the group system:nodes."""
    cluster.apply_file(MANIFESTS / "rbac.yaml")
    with cluster.client(cluster.login("somebody", "people")) as client:
        assert client.get(f"{COLLECTIONS}/secrets?{SELECTED}").status_code == 403


def test_the_manifests_are_accepted(cluster: Cluster) -> None:
    """By the real API's validation."""
    for name in ("configmap.yaml", "secret.yaml"):
        cluster.apply_file(MANIFESTS / name)
    cluster.delete("ConfigMap")
    cluster.delete("Secret")


async def test_the_life_of_a_configuration(
    cluster: Cluster, node: Login, tmp_path: Path, runtime: str
) -> None:
    """Change, bad change, delete, the API server away at the start, and back."""
    await asyncio.to_thread(cluster.apply_file, MANIFESTS / "rbac.yaml")
    kubeconfig = cluster.kubeconfig(tmp_path / "kubelet.conf", node)
    keys: dict[str, Any] = {"kubernetes": {"kubeconfig": str(kubeconfig)}}
    await asyncio.to_thread(cluster.apply, _object("ConfigMap", "timeout: 5m"))
    login = (
        f"sealos: {{address: 'http://127.0.0.1:9', auth: {{username: a, password: {PASSWORD}}}}}"
    )
    async with serving(tmp_path, runtime, **keys) as shim:
        await _until(shim, "5m")
        await asyncio.to_thread(cluster.apply, _object("Secret", f"{login}\ntimeout: 6m"))
        await _until(shim, "6m")
        await asyncio.to_thread(cluster.apply, _object("Secret", f"{login}\ntimeout: soon"))
        await asyncio.to_thread(shim.wait_log, "stays")
        state = (await _command(shim, "status"))["config"]
        assert "timeout" in state["kubernetes"]["error"]
        assert await _timeout(shim) == "6m"
        await asyncio.to_thread(cluster.delete, "Secret")
        await _until(shim, "5m")
        await asyncio.to_thread(cluster.apply, _object("Secret", f"{login}\ntimeout: 7m"))
        await _until(shim, "7m")
        assert await asyncio.to_thread(shim.stop) == 0

    await asyncio.to_thread(cluster.stop)
    async with serving(tmp_path, runtime, **keys) as shim:
        assert await _timeout(shim) == "7m"
        await asyncio.to_thread(shim.wait_log, "Connection refused", 40)
        state = (await _command(shim, "status"))["config"]
        assert state["kubernetes"]["state"] == "away"
        assert state["kubernetes"]["kept_at"]
        await asyncio.to_thread(cluster.start)
        await asyncio.to_thread(cluster.apply, _object("ConfigMap", "debug: true"))
        await asyncio.to_thread(cluster.delete, "Secret")
        await _until(shim, "15m", within_s=150)
        assert PASSWORD not in shim.log
        assert yaml.safe_load(shim.file.read_text())["kubernetes"]
