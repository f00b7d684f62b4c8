"""distribution 3, Gitea and Pulp as the hub: their logins, what they have, and pulls from them."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import PAUSE, on_node, refuse
from tests.e2e.support import images
from tests.e2e.support.containerd import Containerd, Release
from tests.e2e.support.cri_client import CriClient
from tests.e2e.support.crictl import Crictl
from tests.e2e.support.network import Link, with_hosts
from tests.e2e.support.other_registries import LOGIN, OTHERS, USER, Distribution, Gitea, Pulp
from tests.e2e.support.registry import Registry
from tests.e2e.support.shim import COMMAND, Shim

pytestmark = pytest.mark.registries

APP = images.busybox("app")
MANY = images.busybox("many")
Other = Distribution | Gitea | Pulp


def hosts_of(folder: Path, *registries: Other | Registry) -> Path:
    """A file that names these registries and nothing else."""
    lines = [f"{one.ip} {one.host.partition(':')[0]}\n" for one in registries]
    (folder / "hosts").write_text("127.0.0.1 localhost\n" + "".join(lines))
    return folder / "hosts"


@pytest.fixture(scope="session")
def others() -> Iterator[dict[type[Other], Other]]:
    """Those that are running: each takes its time to start."""
    running: dict[type[Other], Other] = {}
    yield running
    for registry in running.values():
        registry.stop()


@pytest.fixture(params=OTHERS, ids=lambda kind: kind.__name__.lower())
def other(
    request: pytest.FixtureRequest, others: dict[type[Other], Other], link: Link, room: Path
) -> Other:
    """One of them, with three images."""
    kind: type[Other] = request.param
    if kind not in others:
        others[kind] = registry = kind(room / built(kind), link.ip)
        registry.serve()
        for repository in ("library/app", "team/app"):
            with registry.pusher(f"{registry.prefix}{repository}") as pusher:
                pusher.push(APP, f"{registry.prefix}{repository}", "1")
        with registry.pusher(f"{registry.prefix}library/many") as pusher:
            pusher.push_for("amd64", MANY, f"{registry.prefix}library/many", "latest")
    return others[kind]


def built(kind: type[Other]) -> str:
    """Its name, if this machine has it."""
    name = kind.__name__.lower()
    if not kind.program.exists():
        refuse(f"needs {kind.program} (tests/e2e/stock/build {name})")
    return name


@dataclass
class Bed:
    """A shim's configuration and its hub."""

    hub: Other
    hosts: Path
    config: Path

    def ask(self, *command: str, login: str = LOGIN) -> tuple[int, Any]:
        """Exit status and JSON of an operator's command, on a node with this login."""
        values = keys(self.hub, login)
        self.config.write_text(json.dumps(values))
        self.config.chmod(0o600)
        asked = [str(COMMAND), "-f", str(self.config), *command, "-o", "json"]
        done = subprocess.run(
            with_hosts(self.hosts, asked), capture_output=True, text=True, check=False
        )
        (answer,) = json.loads(done.stdout)
        return done.returncode, answer


def keys(hub: Other, login: str) -> dict[str, Any]:
    """The configuration of a node; it has no login where `login` is empty."""
    auth = {"auth": login} if login else {}
    return {"address": hub.address, "hub": {"path": f"{hub.prefix}{{path}}"}, **auth}


@pytest.fixture
def bed(other: Other, tmp_path: Path) -> Bed:
    return Bed(other, hosts_of(tmp_path, other), tmp_path / "shim.yaml")


def test_the_login(bed: Bed) -> None:
    """check-registry tells a right one, a wrong one and none apart."""
    assert _login(bed, LOGIN) == (0, "accepted")
    assert _login(bed, f"{USER}:wrong") == (1, "refused")
    assert _login(bed, "") == (0 if bed.hub.public else 1, "not configured")


def _login(bed: Bed, login: str) -> tuple[int, str]:
    status, answer = bed.ask("check-registry", login=login)
    return status, answer["login"]


def test_what_it_has(bed: Bed) -> None:
    """A tag, a digest and an index are found; an unknown tag or repository is absent, no more."""
    wanted = {
        "app:1": APP.digest,
        "quay.io/team/app:1": APP.digest,
        f"app@{APP.digest}": APP.digest,
    }
    for image, digest in wanted.items():
        status, answer = bed.ask("resolve", image)
        assert (status, answer["registry"], answer["digest"]) == (0, bed.hub.host, digest)
    assert bed.ask("resolve", "many")[0] == 0
    for image in ("app:none", "none:1", "quay.io/none/app:1", f"app@sha256:{'0' * 64}"):
        status, answer = bed.ask("resolve", image)
        assert (status, answer["candidates"][0]["outcome"]) == (3, "absent"), image


def test_what_a_wrong_login_is_told(bed: Bed) -> None:
    """That it is wrong, which says nothing about the image."""
    status, answer = bed.ask("resolve", "app:1", login=f"{USER}:wrong")
    assert (status, answer["candidates"][0]["outcome"]) == (1, "unauthorized")


@dataclass
class Node:
    """containerd and a shim, which reach the registries alone."""

    runtime: Containerd
    shim: Shim
    crictl: Crictl

    def names(self) -> set[str]:
        """What the runtime's store has, without the pods' own image and IDs."""
        with CriClient(self.runtime.socket) as client:
            return {name for name in on_node(client) if not name.startswith("sha256:")}


@pytest.fixture
def nodes(release: Release, room: Path) -> Iterator[Any]:
    """Makes a node with this configuration, which reaches these registries."""
    made: list[Node] = []

    def make(values: dict[str, Any], *registries: Other | Registry) -> Node:
        folder = Path(tempfile.mkdtemp(prefix="o-", dir=room))
        hosts = hosts_of(folder, *registries)
        runtime = Containerd(folder / "n", sandbox_image=PAUSE, release=release)
        runtime.route("_default", "http://127.0.0.1:1")
        for one in registries:
            runtime.route(one.host, one.address)
        shim = Shim(folder / "s", runtime.socket, values)
        made.append(Node(runtime, shim, Crictl(shim.socket, folder / "c")))
        for process in (runtime, shim):
            process.command = with_hosts(hosts, process.command)
            process.serve()
        runtime.load(images.docker_archive(images.pause(), PAUSE, folder / "pause.tar"))
        return made[-1]

    yield make
    for node in made:
        node.shim.stop()
        if node.runtime.running:
            with CriClient(node.runtime.socket) as client:
                client.remove_pods()
        node.runtime.close()


@pytest.mark.releases
def test_pulls(other: Other, nodes: Any) -> None:
    """Every image has its own name afterwards, and none the hub's; a container runs."""
    node = nodes(keys(other, LOGIN), other)
    asked = ("app:1", "quay.io/team/app:1", "many", f"quay.io/team/app@{APP.digest}")
    for image in asked:
        ran = node.crictl.pull(image)
        assert ran.status == 0, ran.err
    names = node.names()
    (index,) = (name for name in names if name.startswith("docker.io/library/many@"))
    assert names == {
        "docker.io/library/app:1",
        f"docker.io/library/app@{APP.digest}",
        "docker.io/library/many:latest",
        index,
        "quay.io/team/app:1",
        f"quay.io/team/app@{APP.digest}",
    }
    pod = node.crictl.run_pod("one")
    container = node.crictl.create(pod, "one", "quay.io/team/app:1", ["sleep", "100"])
    node.crictl.ok("start", container)
    ran = node.crictl.pull("none:1")
    assert ran.status != 0
    assert f"{other.host}: absent" in ran.err


def test_a_wrong_login_is_no_end(other: Other, nodes: Any, harbor: Registry) -> None:
    """The next registry gives the image."""
    assert harbor.certificate is not None
    second = {"address": harbor.address, "caFile": str(harbor.certificate.ca), "priority": 100}
    node = nodes({**keys(other, f"{USER}:wrong"), "registries": [second]}, other, harbor)
    node.runtime.route(harbor.host, harbor.address, ca=harbor.certificate.ca)
    ran = node.crictl.pull("example.com/team/app:1")
    assert ran.status == 0, ran.err
    assert "example.com/team/app:1" in node.names()


def test_a_hub_that_pulls_through(link: Link, room: Path, nodes: Any) -> None:
    """distribution 3 fetches what it is asked for, and has it when its source is gone."""
    built(Distribution)
    source = Registry(room / "source", login="s:ource", ip=link.ip)
    source.serve()
    source.push(APP, "library/app", "1")
    source.push(MANY, "library/many", "latest")
    through = Distribution(room / "through", link.ip, upstream=source)
    through.serve()
    try:
        node = nodes({"address": through.address}, through)
        assert node.crictl.pull("app:1").status == 0
        node.crictl.ok("rmi", "app:1")
        source.stop()
        assert node.crictl.pull("app:1").status == 0
        assert node.crictl.pull("many").status != 0
        source.serve()
        assert node.names() == {"docker.io/library/app:1", f"docker.io/library/app@{APP.digest}"}
    finally:
        through.stop()
        source.stop()
