"""One cluster for the whole run; each test leaves it as it found it."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.support import control_plane, images, stock_node, systemd_tree
from tests.e2e.support.bed import RELEASES, Bed, bed
from tests.e2e.support.cluster_node import KUBELET_CONFIG, ClusterNode
from tests.e2e.support.fleet import Fleet
from tests.e2e.support.fleet_image import Images
from tests.e2e.support.stock_node import CONTAINERD
from tests.e2e.support.systemd_tree import snapshot

NGINX = "nginx:1.27"
OLD, NEW = "1.0.0", "1.1.0"
# How long a node may be on a broken release, by the issue.
BACK_S = 60.0
PULLED = (NGINX, "library/load:1", "library/big:1")
needs_helm = pytest.mark.skipif(not shutil.which("helm"), reason="needs helm (.ci/tools/helm)")
PLACES = ("/etc", "/opt", "/root", "/usr/local", "/usr/lib/systemd", KUBELET_CONFIG)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Not a failure in CI: building a cluster takes half an hour there."""
    lacking = [*control_plane.missing(), *systemd_tree.missing()]
    lacking += [name for each in set(RELEASES) for name in stock_node.missing(each)]
    lacking += [name for name in ("iptables",) if not shutil.which(name)]
    if lacking:
        reason = f"needs {', '.join(lacking)} (tests/e2e/cluster/build)"
        for item in items:
            if item.get_closest_marker("cluster"):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def built() -> Iterator[Bed]:
    """Three nodes and a hub that has nginx:1.27; no node has an image."""
    # Whoever ends the run, even one in the background, ends the nodes with it.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    with bed() as cluster:
        nginx = images.busybox("nginx", command=("sleep", "1000000"))
        cluster.hub.push(nginx, "library/nginx", "1.27")
        yield cluster


@pytest.fixture
def cluster(built: Bed) -> Iterator[Bed]:
    """The cluster, its nodes Ready; their trees are the same before a test and after it."""
    built.wait_until_ready()
    before = {node.name: state(node) for node in built.nodes}
    yield built
    built.wait_until_ready()
    after = {node.name: state(node) for node in built.nodes}
    for node in built.nodes:  # those of the chart's stay, for speed
        node.crictl("rmi", *PULLED, endpoint=CONTAINERD)
    assert {name: differing(after[name], before[name]) for name in after} == {
        name: set() for name in before
    }


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


def preload(cluster: Bed, folder: Path) -> None:
    """By `ctr images import` on every node: without the shim they have no registry."""
    nginx = images.busybox("nginx", command=("sleep", "1000000"))
    archive = images.docker_archive(nginx, f"docker.io/library/{NGINX}", folder / "nginx.tar")
    for node in cluster.nodes:
        pause = images.docker_archive(images.pause(), node.pause, folder / "pause.tar")
        node.load(archive)
        node.load(pause)


def processes(bed: Bed) -> dict[str, str]:
    """Each node → the process of its shim."""
    return {node.name: node.shows("image-cri-shim.service", "MainPID") for node in bed.nodes}


def state(node: ClusterNode) -> dict[str, object]:
    """Every file with its mode and owner, what is enabled, and what runs."""
    commands = (
        r"find /run /var/lib -maxdepth 1 -name '*shim*' -printf '%p %M %u %g\n'",
        "systemctl list-unit-files --no-legend",
        "systemctl list-units --no-legend --plain --type=service,socket,timer --state=active",
    )
    told = [each for line in commands for each in node.sh(line).stdout.splitlines()]
    lines = {" ".join(each.split()): True for each in told}
    return {**snapshot(node, PLACES), **lines}


def differing(after: dict[str, object], before: dict[str, object]) -> set[str]:
    """What has come, gone or changed: short enough to be read where a test fails."""
    return {each for each in after.keys() | before.keys() if after.get(each) != before.get(each)}
