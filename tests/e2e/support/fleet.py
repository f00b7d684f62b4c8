"""The chart on a cluster: helm, and what the cluster says of the roll-out."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .bed import Bed
from .cluster_node import ClusterNode
from .fleet_image import NAME, Images, Release
from .hub import LOGIN
from .images import docker_archive, pause
from .process import seldom, wait_for
from .stock_node import HUB, HUB_PORT
from .switching import BUNDLES, ROOM, asked_at
from .systemd_tree import PROJECT

CHART = PROJECT / "contrib/helm/image-cri-shim"
RELEASE, NAMESPACE = "image-cri-shim", "kube-system"
STATE, VERSION = "image-cri-shim.io/state", "image-cri-shim.io/version"
REVISION = "image-cri-shim.io/revision"
ROLLOUT = "image-cri-shim-rollout"
FLEET = "app.kubernetes.io/component=fleet"
# Quick enough for a test; each node is well for so long before the next begins.
VALUES: dict[str, Any] = {
    "config": {"address": f"http://{HUB}:{HUB_PORT}", "auth": LOGIN},
    "soak": "3s",
}


class Fleet:
    """One release of the chart in kube-system."""

    def __init__(self, bed: Bed, images: Images, folder: Path) -> None:
        self.bed = bed
        self._images = images
        self._folder = folder
        self._pause = {
            node.pause: docker_archive(pause(), node.pause, folder / f"{node.number}.tar")
            for node in bed.nodes
        }

    def bring(self, version: str, release: Release = Release.GOOD) -> None:
        """The image of a version on every node, and the pause image: before there is a shim, no
        node reaches a registry.
        """
        archive = self._images.archive(version, release)

        def load(node: ClusterNode) -> None:
            there = node.sh("ctr -n k8s.io images ls -q").stdout.split()
            if f"{NAME}:{version}" not in there:
                node.load(archive)
            if node.pause not in there:
                node.load(self._pause[node.pause])

        self.bed.each(load)

    def apply(self, version: str, **values: Any) -> str:
        """`helm upgrade --install` of a version, without waiting for anything."""
        tree = {**VALUES, **values, "image": {"tag": version}}
        file = self._folder / "values.json"
        file.write_text(json.dumps(tree))
        return self._helm("upgrade", "--install", RELEASE, str(CHART), "--values", str(file))

    def uninstall(self, *words: str, timeout_s: float = 300) -> str:
        """`helm uninstall`, with its hook."""
        return self._helm("uninstall", RELEASE, f"--timeout={timeout_s:g}s", *words)

    def clean(self) -> None:
        """Take away by hand what is still there, whatever has become of it."""
        if self._helm("list", "--short").strip():
            self.uninstall("--no-hooks")
        self.bed.each(_clean)
        names = [f"{name}-" for name in (STATE, VERSION, REVISION)]
        self.bed.plane.kubectl("label", "nodes", "--all", *names)

    def labels(self, name: str = STATE) -> dict[str, str]:
        """Each node → the value of its label."""
        nodes = self.bed.plane.get("nodes")["items"]
        return {one["metadata"]["name"]: one["metadata"]["labels"].get(name, "") for one in nodes}

    def wait_for(self, what: str, true: Callable[[], bool], timeout_s: float = 120) -> float:
        """Seconds until it is; an AssertionError has what the pods said."""
        try:
            return wait_for(what, seldom(true), timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.labels()}\n{self.told()}") from error

    def wait_until_healthy(self, version: str, timeout_s: float = 300) -> float:
        """Seconds until every node says that it is well with that version."""
        wanted = {node.name: f"{version}.healthy" for node in self.bed.nodes}
        return self.wait_for(f"{version} on all", lambda: self.labels() == wanted, timeout_s)

    def halted(self) -> str:
        """What the roll-out's object holds of revisions that failed."""
        found = self.bed.plane.get("-n", NAMESPACE, "configmap", ROLLOUT).get("data", {})
        return str(found.get("halts", ""))

    def serving(self) -> dict[str, str]:
        """Each node → the version to which its link leads, empty without one."""
        link = f"{BUNDLES}/current"
        return {node.name: os.path.basename(_target(node, link)) for node in self.bed.nodes}

    def asked(self) -> dict[str, float]:
        """Each node → when a switch was asked for there last, 0 for never."""
        return {node.name: asked_at(node) for node in self.bed.nodes}

    def asked_since(self, before: Mapping[str, float]) -> list[ClusterNode]:
        """The nodes on which a switch was asked for since."""
        now = self.asked()
        return [node for node in self.bed.nodes if now[node.name] != before[node.name]]

    def next_asked(self, before: Mapping[str, float]) -> ClusterNode:
        """The first node of which a switch is asked."""
        wait_for("a request for a switch", lambda: bool(self.asked_since(before)), 120)
        return self.asked_since(before)[0]

    def pods(self) -> list[dict[str, Any]]:
        """The chart's pods on nodes."""
        return self.bed.pods("-n", NAMESPACE, "-l", FLEET)

    def pod_on(self, node: ClusterNode) -> str:
        """The name of the pod on a node."""
        (name,) = (
            one["metadata"]["name"]
            for one in self.pods()
            if one["spec"]["nodeName"] == node.name and "deletionTimestamp" not in one["metadata"]
        )
        return str(name)

    def told(self) -> str:
        """What the pods wrote last, and what each node's switch said."""
        logs = self.bed.plane.kubectl(
            *("logs", "-n", NAMESPACE, "-l", FLEET, "--tail=15", "--prefix"), check=False
        )
        states = [f"{node.name}: {_text(node, f'{ROOM}/state.json')}" for node in self.bed.nodes]
        return "\n".join([logs.stdout + logs.stderr, *states])

    def _helm(self, *words: str) -> str:
        command = ["helm", *words, "--namespace", NAMESPACE]
        environment = {**os.environ, "KUBECONFIG": str(self.bed.plane.admin_file)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{self.told()}"
        return done.stdout


def _clean(node: ClusterNode) -> None:
    node.by_hand("uninstall-service", "--now", "--purge", "--force", check=False)
    left = [BUNDLES, "/var/lib/image-cri-shim*", "/etc/image-cri-shim.yaml", "/run/image-cri-shim*"]
    node.sh(f"rm -rf {' '.join(left)}")


def _target(node: ClusterNode, link: str) -> str:
    try:
        return os.readlink(node.place(link))
    except OSError:
        return ""


def _text(node: ClusterNode, path: str) -> str:
    try:
        return node.place(path).read_text()
    except OSError as error:
        return str(error)
