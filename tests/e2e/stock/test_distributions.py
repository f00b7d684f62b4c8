"""k3s, and k0s, whose kubelet is a part of something else: the README's steps, and pods."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import refuse
from tests.e2e.stock.conftest import BYPASS, LOGIN, PYTHON, SERVICE, differing, install
from tests.e2e.support import images, stock_node, switch_node
from tests.e2e.support.distribution_nodes import DISTRIBUTIONS, DistributionNode
from tests.e2e.support.kubelet import containers, pod, waits
from tests.e2e.support.network import Link
from tests.e2e.support.process import wait_for
from tests.e2e.support.registry import Registry
from tests.e2e.support.steps import Step, steps
from tests.e2e.support.systemd_tree import snapshot

pytestmark = pytest.mark.distributions

HUB = f"{stock_node.HUB}:{stock_node.HUB_PORT}"
APP = "harbor.example.com/team/app:1"
START_S = 240


@pytest.fixture(
    scope="module",
    params=DISTRIBUTIONS,
    ids=[each.units[0].partition(".")[0] for each in DISTRIBUTIONS],
)
def node(
    request: pytest.FixtureRequest,
    link: Link,
    wheelhouse: Path,
    stocked_hub: Registry,
    harbor: Registry,
    installed: Path,
) -> Iterator[DistributionNode]:
    """One with no image, on which the README's first step is done."""
    kind: type[DistributionNode] = request.param
    if missing := kind.missing():
        refuse(f"needs {', '.join(missing)} (tests/e2e/stock/build k3s k0s)")
    for name, tag in (("rancher/mirrored-pause", "3.6"), ("pause", "3.10")):
        stocked_hub.push(images.pause(), name, tag)
    with contextlib.ExitStack() as stack:
        made = kind(link, wheelhouse)
        if kind.joins is not None:
            made.control = stack.enter_context(controlling(kind.joins(link, wheelhouse)))
        booted = stack.enter_context(stock_node.serving(made))
        assert harbor.certificate is not None
        booted.add("/etc/image-cri-shim/ca.pem", harbor.certificate.ca.read_text())
        install(booted, installed)
        wait_for("a node", booted.ready, START_S)
        yield booted


@contextlib.contextmanager
def controlling(machine: DistributionNode) -> Iterator[DistributionNode]:
    """The same, booted, whose API server serves."""
    try:
        machine.boot()
        machine.plug()
        machine.systemctl("enable", "--now", *machine.units, timeout_s=START_S)
        wait_for("the API server", machine.serves, START_S)
        yield machine
    finally:
        machine.close()


def state(node: DistributionNode) -> dict[str, object]:
    """What an installation changes; below /run and /var/lib pods leave things of their own."""
    units = node.sh("systemctl list-unit-files --no-legend").stdout.splitlines()
    return {**snapshot(node, ("/etc", "/usr/local", "/usr/lib/systemd")), "units": units}


def runs(node: DistributionNode, name: str) -> bool:
    found = containers(node.status(name))
    return bool(found) and "running" in found[0]["state"]


def run(node: DistributionNode, *pods: dict[str, Any]) -> None:
    """They run, given to the API server."""
    for each in pods:
        each["spec"]["automountServiceAccountToken"] = False
        node.apply(each)
    for each in pods:
        name = each["metadata"]["name"]
        wait_for(f"{name}: {node.status(name)}", partial(runs, node, name), 90)


def wire(node: DistributionNode, command: str) -> None:
    """The README's command. What it leaves to the operator is done as it says, at its end."""
    done = node.sh(command, check=False, timeout_s=START_S)
    if node.by_hand:
        assert done.returncode == 1
        assert "kubelet is to be wired by hand now" in done.stderr
        assert node.shows(SERVICE, "ActiveState") == "active"
        node.wire_by_hand()
    else:
        assert done.returncode == 0, done.stdout + done.stderr
    wait_for("a node", node.ready, START_S)


def unwire(node: DistributionNode) -> None:
    """A kubelet that was wired by hand is not left without a runtime."""
    command = "image-cri-shim uninstall-service"
    if node.by_hand:
        refused = node.sh(command, check=False)
        assert refused.returncode == 1
        assert "by hand" in refused.stderr
        assert node.shows(SERVICE, "ActiveState") == "active"
        node.unwire_by_hand()
        wait_for("a node", node.ready, START_S)
    node.sh(command, timeout_s=START_S)


def test_from_the_readme_to_running_pods_and_back(
    node: DistributionNode, readme: list[Step]
) -> None:
    """Pods of each policy start from the hub alone, on a node that has no image, and stay."""
    before = state(node)
    file, ask, install_it, look = readme
    file.carry_out(node)
    ask.carry_out(node)
    command = install_it.commands[-1]
    wire(node, command)
    assert "installed already" in node.sh(command).stdout
    look.carry_out(node)
    found = node.doctor()
    assert {each["result"] for each in found} == {"PASS"}, found

    digest = images.busybox("nginx").digest
    run(
        node,
        pod("if-not-present", "nginx:latest"),
        pod("always", "nginx", policy="Always"),
        pod("pinned", f"nginx@{digest}"),
    )
    run(node, pod("never", "docker.io/library/nginx:latest", policy="Never"))
    absent = pod("absent", "team/nobody:1")
    absent["spec"]["automountServiceAccountToken"] = False
    node.apply(absent)
    wait_for("a reason", lambda: "message" in waits(node.status("absent")), 60)
    assert f"image-cri-shim: {HUB}: absent" in waits(node.status("absent"))["message"]
    node.kube("delete pod absent --force")

    for step in steps("docs/install.md", "Another registry"):
        step.carry_out(node)
    wait_for("a node", node.ready, START_S)
    run(node, pod("private", APP))
    running = node.running(node.endpoint)
    assert len(running) == 5
    unwire(node)
    wait_for("a node", node.ready, START_S)
    assert node.running(node.endpoint) == running
    node.kube("delete pods --all --force")
    node.sh("rm /etc/image-cri-shim.yaml")
    assert differing(state(node), before) == set()


def test_a_pod_starts_while_the_shim_cannot(node: DistributionNode, readme: list[Step]) -> None:
    """Past it, of an image that is there; and through it again."""
    file, _, install_it, _ = readme
    file.carry_out(node)
    wire(node, install_it.commands[-1])
    node.sh("image-cri-shim pull nginx:latest")
    run(node, pod("first", "nginx:latest"))
    python = node.place(PYTHON)
    gone = python.with_name("python3.gone")
    python.rename(gone)
    node.sh(f"systemctl kill --signal=KILL {SERVICE}")
    wait_for("the bypass", lambda: node.shows(BYPASS, "ActiveState") == "active", 60)
    run(node, pod("second", "nginx:latest"))
    gone.rename(python)
    node.sh(f"systemctl restart {SERVICE}")
    wait_for("no bypass", lambda: node.shows(BYPASS, "ActiveState") == "inactive", 30)
    node.systemctl("restart", *node.units, timeout_s=START_S)
    wait_for("a node", node.ready, START_S)
    run(node, pod("third", "nginx:latest"))
    assert runs(node, "first")
    assert runs(node, "second")
    node.kube("delete pods --all --force")
    unwire(node)


def test_the_switch_of_a_fleet(node: DistributionNode, stocked_hub: Registry) -> None:
    """Installed, upgraded and removed by the node itself; refused for a kubelet wired by hand."""
    own = PYTHON.removesuffix("/bin/python3")
    before = state(node)
    for version in ("1.0.0", "2.0.0"):
        switch_node.unpack(node, version, switch_node.GOOD.replace("{prefix}", own))
    config = f"address: http://{HUB}\nauth: {LOGIN}\n"
    if node.by_hand:
        ended, _ = switch_node.switched(node, "1.0.0", config=config)
        assert ended["phase"] == "refused", ended
        assert "wireKubelet: false" in ended["detail"], ended
    else:
        for version in ("1.0.0", "2.0.0"):
            ended, _ = switch_node.switched(node, version, config=config)
            assert ended["phase"] == "healthy", ended
            wait_for("a node", node.ready, START_S)
            run(node, pod(f"by-{version[0]}", "nginx:latest", policy="Always"))
        assert "handed over" in switch_node.said(node).stdout
        ended, _ = switch_node.switched(node, "2.0.0", mode="remove", revision="away")
        assert ended["phase"] == "removed", ended
        wait_for("a node", node.ready, START_S)
        assert len(node.running(node.endpoint)) == 2
        node.kube("delete pods --all --force")
    node.sh(f"rm -r {switch_node.ROOM.rpartition('/')[0]}")
    assert differing(state(node), before) == set()
