"""Nodes where nothing is wrong, of all kinds: `doctor` finds no failure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from shimcore.doctor import Result
from tests.support.doctor import KUBELET, SHIM, World, world

FAIL = Result.FAIL


def _hosts_toml(node: World) -> None:
    config = 'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\n'
    node.put("/etc/containerd/config.toml", f'{config}config_path = "/etc/certs.d"\n')
    node.put(f"/etc/certs.d/{node.hub.host}/hosts.toml", f'[host."{node.hub.address}"]\n')


def _mirrors(node: World) -> None:
    table = f'[plugins."io.containerd.grpc.v1.cri".registry.mirrors."{node.hub.host}"]\n'
    text = f'version = 2\n{table}endpoint = ["{node.hub.address}"]\n'
    node.put("/etc/containerd/config.toml", text)


def _distribution(
    directory: str, program: str, *arguments: str, **files: str
) -> Callable[[World], None]:
    """A node of a distribution whose kubelet is wired, and whose containerd is told."""

    def make(node: World) -> None:
        (node.root.directory / KUBELET.lstrip("/")).unlink()
        node.put(f"{directory}/x", "")
        for text in files.values():
            path, _, content = text.partition(": ")
            node.put(path, content)
        node.kubelet(*arguments, program=program)

    return make


ARGUMENT = f"container-runtime-endpoint=unix://{SHIM}"

RANCHER = f"/etc/rancher/{{}}/config.yaml.d/9.yaml: kubelet-arg+: [{ARGUMENT}]\n"

HEALTHY: dict[str, Callable[[World], object]] = {
    "kubeadm": lambda node: node.kubelet(),
    "kubelet by flag": lambda node: node.kubelet(f"--container-runtime-endpoint=unix://{SHIM}"),
    "no kubelet": lambda node: (node.root.directory / KUBELET.lstrip("/")).unlink(),
    "containerd 2.4": lambda node: node.name("containerd", "2.4.2"),
    "Docker with cri-dockerd": lambda node: node.name("docker", "27.1.0"),
    "CRI-O": lambda node: node.name("cri-o", "1.30.0"),
    "another runtime": lambda node: node.name("stand-in", "1"),
    "deny": lambda node: node.keys.update(fallback="deny"),
    "hosts.toml": _hosts_toml,
    "mirrors in config.toml": _mirrors,
    "k3s": _distribution(
        "/var/lib/rancher/k3s", "/usr/local/bin/k3s server", wired=RANCHER.format("k3s")
    ),
    "RKE2": _distribution("/var/lib/rancher/rke2", "kubelet", f"--{ARGUMENT}"),
    "MicroK8s": _distribution(
        "/var/snap/microk8s/current/args",
        "/snap/microk8s/1/kubelite",
        wired=f"/var/snap/microk8s/current/args/kubelet: --{ARGUMENT}\n",
    ),
    "k0s": _distribution("/var/lib/k0s", "/var/lib/k0s/bin/kubelet", f"--{ARGUMENT}"),
    "watched cluster": lambda node: node.kubernetes("watching"),
}


@pytest.mark.parametrize("layout", HEALTHY)
async def test_a_healthy_layout_has_no_failure(tmp_path: Path, layout: str) -> None:
    """What is well is not called broken."""
    async with world(tmp_path) as node:
        HEALTHY[layout](node)
        found = await node.examined()
    assert [one for one in found if one.result is FAIL] == []
    (pause,) = [one for one in found if one.check == "pause image"]
    assert pause.result is Result.PASS
