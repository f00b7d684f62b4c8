"""A real kubelet on a node that has nothing: every image, the pause image too, is on the hub alone.

The hub is known by a name, speaks plain HTTP and wants a login; no other registry can be reached.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.conftest import HUB_LOGIN
from tests.e2e.support import images
from tests.e2e.support.bridge import Bridge
from tests.e2e.support.containerd import Containerd, Release
from tests.e2e.support.cri_client import CriClient
from tests.e2e.support.crictl import Crictl
from tests.e2e.support.kubelet import Kubelet, containers, kubeadm, missing, pod
from tests.e2e.support.network import Link, with_hosts
from tests.e2e.support.registry import Registry
from tests.e2e.support.report import NOTES
from tests.e2e.support.shim import Shim

pytestmark = [
    pytest.mark.kubelet,
    pytest.mark.releases,
    # Not a failure in CI: building a kubelet takes a quarter of an hour there.
    pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}"),
]

# Before every other registry in the alphabet: kubelet shows the first of an image's names.
HUB = "air.gap"
PAUSE = "registry.k8s.io/pause:3.10"
FIRST_POD_S = 15.0

APP = images.busybox("app")
PINNED = images.busybox("pinned")
TOOL = images.busybox("tool")
SERVER = images.busybox("server")
SHARED = images.busybox("shared")
# Repository and tag on the hub → image.
ON_HUB = {
    ("pause", "3.10"): images.pause(),
    ("library/app", "latest"): APP,
    ("library/always", "1"): images.busybox("always"),
    ("library/pinned", "1"): PINNED,
    ("org/tool", "1"): TOOL,
    ("e2e/server", "1"): SERVER,
    ("library/data", "1"): images.small("data"),
    ("library/shared", "1"): SHARED,
    ("org/shared", "1"): SHARED,
}


@dataclass
class Node:
    """One node: kubelet → shim → containerd, and the only registry that it reaches."""

    hub: Registry
    runtime: Containerd
    shim: Shim
    kubelet: Kubelet

    def image_names(self) -> list[str]:
        """Every tag and digest that the runtime lists: what kubelet makes node status of."""
        with CriClient(self.shim.socket) as client:
            return sorted(name for one in client.images() for name in (*one.tags, *one.digests))

    def assert_nothing_names_the_hub(self) -> None:
        """Neither a pod's status nor what node status is made of."""
        statuses = {name: one["status"] for name, one in self.kubelet.pods().items()}
        lines = json.dumps(statuses, indent=1).splitlines()
        assert [line for line in [*lines, *self.image_names()] if HUB in line] == []

    def note(self, text: str) -> None:
        """Adds a line to what the run prints at its end."""
        NOTES.append(f"kubelet on {self.runtime.name}: {text}")


@pytest.fixture(scope="module")
def link(machine: None) -> Iterator[Link]:
    """The hub's address."""
    made = Link()
    yield made
    made.close()


@pytest.fixture(scope="module")
def stocked_hub(room: Path, link: Link) -> Iterator[Registry]:
    registry = Registry(room / "kubelet-hub", login=HUB_LOGIN, ip=link.ip, name=HUB)
    registry.serve()
    with registry.pusher() as pusher:
        for (repository, tag), image in ON_HUB.items():
            pusher.push(image, repository, tag)
    yield registry
    registry.stop()


@pytest.fixture
def hub(stocked_hub: Registry) -> Registry:
    """The hub, running."""
    if not stocked_hub.running:
        stocked_hub.serve()
    return stocked_hub


@pytest.fixture
def blank(release: Release, hub: Registry, link: Link, room: Path) -> Iterator[Node]:
    """A node without any image. It knows the hub by name and reaches nothing else."""
    directory = Path(tempfile.mkdtemp(prefix="k-", dir=room))
    hosts = directory / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{link.ip} {HUB}\n")
    bridge = Bridge(directory / "b")
    runtime = Containerd(
        directory / "n",
        sandbox_image=PAUSE,
        release=release,
        network=bridge.config,
    )
    runtime.route("_default", "http://127.0.0.1:1")
    runtime.route(hub.host, hub.address)
    shim = Shim(directory / "s", runtime.socket, {"address": hub.address, "auth": HUB_LOGIN})
    for process in (runtime, shim):
        process.command = with_hosts(hosts, process.command)
    kubelet = Kubelet(directory / "k", shim.socket)
    try:
        runtime.serve()
        shim.serve()
        kubelet.serve()
        yield Node(hub, runtime, shim, kubelet)
    finally:
        kubelet.close()
        shim.stop()
        if runtime.running:
            with CriClient(runtime.socket) as client:
                client.remove_pods()
        runtime.close()
        bridge.close()


def test_the_first_pod_of_a_blank_node(blank: Node, tmp_path: Path) -> None:
    """It runs within 15 s of its first attempt, pause image and all."""
    started = time.monotonic()
    name = blank.kubelet.run(pod("first", "app"))
    blank.kubelet.wait_until_running(name)
    took_s = time.monotonic() - started
    blank.note(f"first pod of a blank node runs in {took_s:.1f} s")
    assert took_s < FIRST_POD_S
    listed = Crictl(blank.shim.socket, tmp_path).json("images")["images"]
    pinned = [one["repoTags"] for one in listed if one["pinned"]]
    assert pinned == ([[PAUSE]] if blank.runtime.release.pins else [])
    assert PAUSE in blank.image_names()
    blank.assert_nothing_names_the_hub()


def test_pods_of_every_kind(blank: Node) -> None:
    """Policies, a digest and other registries' images: they run, and no status names the hub."""
    kubelet = blank.kubelet
    digest = f"pinned@{PINNED.digest}"
    wanted = {
        kubelet.run(pod("if-not-present", "app")): "docker.io/library/app:latest",
        kubelet.run(pod("always", "always:1", policy="Always")): "docker.io/library/always:1",
        kubelet.run(pod("digest", digest)): f"docker.io/library/{digest}",
        kubelet.run(pod("quay", "quay.io/org/tool:1")): "quay.io/org/tool:1",
        kubelet.run(pod("k8s", "registry.k8s.io/e2e/server:1")): "registry.k8s.io/e2e/server:1",
    }
    for name in wanted:
        kubelet.wait_until_running(name)
    seen = {name: containers(kubelet.status(name))[0] for name in wanted}
    assert {name: one["restartCount"] for name, one in seen.items()} == dict.fromkeys(wanted, 0)
    repositories = {name: re.split(r"[:@]", image)[0] for name, image in wanted.items()}
    assert {name: one["imageID"].split("@")[0] for name, one in seen.items()} == repositories
    tagged = {name: image for name, image in wanted.items() if "@" not in image}
    assert {name: seen[name]["image"] for name in tagged} == tagged
    assert set(tagged.values()) <= set(blank.image_names())
    blank.assert_nothing_names_the_hub()


def test_an_image_volume(blank: Node) -> None:
    """A volume of an image that only the hub has is mounted."""
    if blank.runtime.release.version < (2, 1):
        pytest.skip("this containerd knows no image volumes")
    name = blank.kubelet.run(pod("volume", "app", volume="data:1"))
    blank.kubelet.wait_until_running(name)
    assert "docker.io/library/data:1" in blank.image_names()
    blank.assert_nothing_names_the_hub()


def test_an_image_that_nobody_has(blank: Node) -> None:
    """The pod's message names the hub and its reason, during the back-off as well."""
    name = blank.kubelet.run(pod("nobody", "quay.io/org/nobody:1"))
    reason = rf"{re.escape(blank.hub.host)}[^;\n]*(absent|not found|does not have|unknown|404)"
    for state in ("ErrImagePull", "ImagePullBackOff"):
        message = blank.kubelet.wait_until_waiting(name, state)
        assert "quay.io/org/nobody:1" in message
        assert re.search(reason, message), message
        assert HUB_LOGIN not in message
    _log_tells(blank, "nobody")


def test_a_hub_that_is_down(blank: Node) -> None:
    """The pod's message names the hub and that it cannot be reached; once it is up, it runs."""
    kubelet = blank.kubelet
    kubelet.wait_until_running(kubelet.run(pod("before", "app")))
    blank.hub.stop()
    name = kubelet.run(pod("late", "always:1"))
    message = kubelet.wait_until_waiting(name, "ErrImagePull", "ImagePullBackOff")
    reason = rf"{re.escape(blank.hub.host)}[^;\n]*(refused|unreachable|not reachable|connect)"
    assert re.search(reason, message, re.IGNORECASE), message
    blank.hub.serve()
    took_s = kubelet.wait_until_running(name)
    blank.note(f"{took_s:.1f} s from hub up to running, by back-off")
    blank.assert_nothing_names_the_hub()


def test_the_hub_dies_and_the_shim_is_killed(blank: Node, room: Path) -> None:
    """What is on the node starts, whoever brought it; what runs is left alone."""
    kubelet = blank.kubelet
    archive = images.docker_archive(TOOL, "quay.io/org/tool:1", room / "preload.tar")
    blank.runtime.load(archive)
    old = kubelet.run(pod("old", "app"))
    kubelet.wait_until_running(old)
    before = containers(kubelet.status(old))[0]
    blank.hub.stop()
    blank.shim.kill()
    pulled = kubelet.run(pod("pulled", "app"))
    preloaded = kubelet.run(pod("preloaded", "quay.io/org/tool:1"))
    time.sleep(2)  # kubelet finds nobody at the socket
    started = time.monotonic()
    blank.shim.serve()
    for name in (pulled, preloaded):
        kubelet.wait_until_running(name)
    took_s = time.monotonic() - started
    blank.note(f"pods run {took_s:.1f} s after the killed shim")
    after = containers(kubelet.status(old))[0]
    assert (after["containerID"], after["restartCount"]) == (before["containerID"], 0)
    blank.assert_nothing_names_the_hub()


def test_what_kubelet_records_of_a_pull(blank: Node) -> None:
    """An image that the hub's login brought belongs to every pod of the node.

    The pods have no imagePullSecret and the shim's login is none that kubelet knows of: for each
    name (without tag) that a pod wrote, kubelet keeps that all may use the image, and nothing
    else. Who must not see an image has to be kept from the node, not from the hub.
    """
    kubelet = blank.kubelet
    kubelet.wait_until_running(kubelet.run(pod("one", "shared:1")))
    kubelet.wait_until_running(kubelet.run(pod("two", "quay.io/org/shared:1")))
    (record,) = kubelet.pull_records()
    assert record["kind"] == "ImagePulledRecord"
    assert record["imageRef"] == SHARED.id
    everyone = {"nodePodsAccessible": True}
    assert record["credentialMapping"] == {
        "shared": everyone,
        "quay.io/org/shared": everyone,
    }
    assert kubelet.pull_intents() == []
    blank.hub.stop()
    kubelet.wait_until_running(kubelet.run(pod("three", "quay.io/org/shared:1")), 60)


def test_kubeadm_pulls_its_images(blank: Node) -> None:
    """`kubeadm config images pull` leaves every image of the control plane, under its own name."""
    version = ("--kubernetes-version", kubeadm("version", "--output", "short").strip())
    wanted = kubeadm("config", "images", "list", *version).split()
    with blank.hub.pusher() as pusher:
        for image in wanted:
            repository, _, tag = image.partition("/")[2].rpartition(":")
            pusher.push(images.small(repository), repository, tag)
    socket = f"unix://{blank.shim.socket}"
    told = kubeadm("config", "images", "pull", *version, "--cri-socket", socket)
    assert re.findall(r"Pulled (\S+)", told) == wanted
    assert set(wanted) <= set(blank.image_names())
    assert HUB not in " ".join(blank.image_names())


def _log_tells(blank: Node, pod_name: str) -> None:
    lines = [line for line in blank.shim.text().splitlines() if f"default/{pod_name}-e2e" in line]
    assert any("WARNING" in line and blank.hub.host in line for line in lines), blank.shim.tail()
