"""A node with a stock containerd, the project installed by the README, and two registries."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import refuse
from tests.e2e.support import images, stock_node, systemd_tree
from tests.e2e.support.authority import issue_certificate
from tests.e2e.support.containerd import RELEASES, Release
from tests.e2e.support.kubeadm_layout import FILES, KUBELET
from tests.e2e.support.network import Link
from tests.e2e.support.process import wait_for
from tests.e2e.support.registry import Registry
from tests.e2e.support.steps import Step, steps
from tests.e2e.support.stock_node import CONTAINERD, PAUSES, StockNode
from tests.e2e.support.systemd_tree import snapshot

README = ("README.md", "From nothing to a wired kubelet in five minutes")
LOGIN = "admin:passw0rd"
SERVICE = "image-cri-shim.service"
BYPASS = "image-cri-shim-bypass.service"
PYTHON = "/opt/image-cri-shim/bin/python3"
PLACES = ("/etc", "/usr/local", "/usr/lib/systemd", "/var/lib/kubelet")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A module that names a `RELEASE` runs on that alone."""
    for item in list(items):
        wanted = getattr(getattr(item, "module", None), "RELEASE", None)
        callspec = getattr(item, "callspec", None)
        if wanted and callspec and callspec.params.get("stock", wanted) is not wanted:
            items.remove(item)


@pytest.fixture(scope="session", params=RELEASES, ids=[each.name for each in RELEASES])
def stock(request: pytest.FixtureRequest) -> Release:
    """The containerd of the node."""
    release: Release = request.param
    if missing := [*systemd_tree.missing(), *stock_node.missing(release)]:
        refuse("needs " + ", ".join(missing))
    return release


@pytest.fixture(scope="session")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In place of PyPI."""
    return stock_node.wheels(tmp_path_factory.mktemp("wheels"))


@pytest.fixture(scope="session")
def link() -> Iterator[Link]:
    """The address of the registries, which is no loopback address to the nodes."""
    made = Link()
    yield made
    made.close()


@pytest.fixture(scope="session")
def stocked_hub(link: Link, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Plain http, with the login and under the name and port that the README has."""
    hub = Registry(
        tmp_path_factory.mktemp("hub"),
        login=LOGIN,
        ip=link.ip,
        name=stock_node.HUB,
        port=stock_node.HUB_PORT,
    )
    hub.serve()
    hub.push(images.busybox("nginx"), "library/nginx", "latest")
    for pause in PAUSES.values():
        hub.push(images.pause(), "pause", pause)
    yield hub
    hub.stop()


@pytest.fixture(scope="session")
def harbor(link: Link, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """https, by an authority that no system knows; as docs/install.md has it."""
    folder = tmp_path_factory.mktemp("harbor")
    registry = Registry(
        folder,
        certificate=issue_certificate(folder / "pki", ip=link.ip, name=stock_node.HARBOR),
        ip=link.ip,
        name=stock_node.HARBOR,
        port=stock_node.HARBOR_PORT,
    )
    registry.serve()
    registry.push(images.busybox("app"), "team/app", "1")
    yield registry
    registry.stop()


@pytest.fixture(scope="session")
def readme() -> list[Step]:
    """The README's steps after the first, which the node has behind it."""
    return steps(*README)[1:]


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the README's first step has made on the first node: on the next it is the same."""
    return tmp_path_factory.mktemp("installed") / "opt"


@pytest.fixture(scope="session")
def booted(
    stock: Release,
    link: Link,
    wheelhouse: Path,
    stocked_hub: Registry,
    harbor: Registry,
    installed: Path,
) -> Iterator[StockNode]:
    """The node: containerd as it comes, a kubelet as kubeadm leaves it, the README's first step."""
    with stock_node.serving(StockNode(stock, link, wheelhouse)) as node:
        furnish(node, harbor, installed)
        yield node


def furnish(node: StockNode, harbor: Registry, installed: Path) -> None:
    """A kubelet as kubeadm leaves it, harbor's authority, and the README's first step."""
    node.add("/usr/local/bin/kubelet", KUBELET, 0o755)
    for path, text in FILES.items():
        if "crictl" not in path:
            node.add(path, text.replace(CONTAINERD, node.endpoint))
    node.systemctl("daemon-reload")
    node.systemctl("enable", "--now", "kubelet.service")
    assert harbor.certificate is not None
    node.add("/etc/image-cri-shim/ca.pem", harbor.certificate.ca.read_text())
    install(node, installed)


def install(node: StockNode, installed: Path) -> None:
    """By the README's first step, whose last command is typed on every node."""
    there = node.place("/opt/image-cri-shim")
    if installed.exists():
        shutil.copytree(installed, there, symlinks=True, dirs_exist_ok=True)
        node.sh(steps(*README)[0].commands[-1])
        return
    steps(*README)[0].carry_out(node)
    shutil.copytree(there, installed, symlinks=True)


@pytest.fixture
def node(booted: StockNode) -> Iterator[StockNode]:
    """The same before every test: no unit, no configuration of the project's, no image."""
    with put_back(booted):
        yield booted


@pytest.fixture(scope="module")
def wired(booted: StockNode, readme: list[Step]) -> Iterator[StockNode]:
    """All that the README says to install is installed, for all tests of a module."""
    crictl = "/etc/crictl.yaml"
    booted.add(crictl, FILES[crictl])
    with put_back(booted):
        file, _, install, _ = readme
        file.carry_out(booted)
        booted.sh(install.commands[-1])
        yield booted
    booted.place(crictl).unlink()


@contextlib.contextmanager
def put_back(booted: StockNode) -> Iterator[None]:
    """What is installed goes, and leaves nothing."""
    before = state(booted)
    yield
    booted.clear()
    booted.sh("image-cri-shim uninstall-service --purge --force")
    booted.place("/etc/image-cri-shim.yaml").unlink(missing_ok=True)
    booted.wait_for_runtime()
    assert differing(state(booted), before) == set()


def state(node: StockNode) -> dict[str, object]:
    """Every file with its mode and owner, what is enabled, and what runs."""
    commands = (
        r"find /run /var/lib -maxdepth 1 -printf '%p %M %u %g\n'",
        "systemctl list-unit-files --no-legend",
        "systemctl list-units --no-legend --plain --type=service,socket --state=active",
    )
    lines = {each: line for line in commands for each in node.sh(line).stdout.splitlines()}
    return {**snapshot(node, PLACES), **lines}


def differing(after: dict[str, object], before: dict[str, object]) -> set[str]:
    """What has come, gone or changed: short enough to be read where a test fails."""
    return {each for each in after.keys() | before.keys() if after.get(each) != before.get(each)}


def assert_pods_start_without_the_shim(node: StockNode, image: str = "nginx:latest") -> None:
    """Its interpreter goes and comes back: pods of an image that is there start all the while."""
    first = node.start_pod("first", image)
    python = node.place(PYTHON)
    gone = python.with_name("python3.gone")
    python.rename(gone)
    node.sh(f"systemctl kill --signal=KILL {SERVICE}")
    wait_for("the bypass", lambda: node.shows(BYPASS, "ActiveState") == "active", 60)
    second = node.start_pod("second", image)
    assert node.running() == {first, second}
    gone.rename(python)
    node.sh(f"systemctl restart {SERVICE}")
    wait_for("the shim", lambda: node.shows(SERVICE, "ActiveState") == "active", 60)
    wait_for("no bypass", lambda: node.shows(BYPASS, "ActiveState") == "inactive", 10)
    third = node.start_pod("third", image)
    assert node.running() == {first, second, third}
