"""One containerd and three registries for the whole run; a shim for each test that wants one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.support import images
from tests.e2e.support.authority import TokenServer, issue_certificate
from tests.e2e.support.containerd import DEBIAN, RELEASES, Containerd, Release
from tests.e2e.support.cri_client import CriClient, StoreRecord
from tests.e2e.support.crictl import Crictl
from tests.e2e.support.recorder import Recorder
from tests.e2e.support.registry import Registry
from tests.e2e.support.report import FAULTS, NOTES, Fault, write_faults
from tests.e2e.support.shim import COMMAND, Shim

COMPONENTS = ("runc", "docker-registry", "htpasswd", "crictl", "setpriv")
PAUSE = "pause.e2e/pause:1"
PUBLIC = ("docker.io", "quay.io")
HUB_LOGIN = "hub-user:hub:pass"
MIRROR_LOGIN = "mirror-user:mirror-pass"
TOKEN_LOGIN = "token-user:token-pass"
RUNNING: set[str] = set()
"""The tests that have begun and not ended."""

# With several workers (`make e2e`), tests that share nodes, trees or the machine's ports are one's.
LANES = {
    "test_package": "packages",
    "test_rpm": "packages",
    "test_image": "packages",
    "test_critest": "critest",
    "test_soak": "soak",
    "test_h2spec": "protocol",
    "test_differential": "protocol",
    "test_foreign_calls": "protocol",
    "test_kills": "endings",
    "test_stalls": "endings",
    "test_hand_over": "endings",
}


def lane(item: pytest.Item) -> str:
    """Which tests have to be in one worker with this one."""
    if item.path.parent.name == "stock":
        return "stock"
    if item.path.stem.startswith("test_systemd"):
        return "systemd"
    if own := LANES.get(item.path.stem):
        return own
    names = getattr(item, "callspec", None)
    release = names.params.get("release") if names else None
    return release.name if isinstance(release, Release) else item.path.stem


def pytest_itemcollected(item: pytest.Item) -> None:
    """Says which lane a test is of."""
    item.add_marker(pytest.mark.xdist_group(lane(item)))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Nothing runs where a worker would not keep to the lanes."""
    in_lanes = getattr(session.config.option, "loadgroup", False)
    if in_lanes and any("@" not in item.nodeid for item in session.items):
        raise RuntimeError("this pytest-xdist makes no groups with this pytest")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What needs a runtime runs on Debian's containerd, marked `releases` on the newest too.

    A test that names `api` runs once for each CRI version that its containerd speaks.
    """
    if "release" not in metafunc.fixturenames:
        return
    both = metafunc.definition.get_closest_marker("releases") is not None
    releases = RELEASES if both else (DEBIAN,)
    if "api" in metafunc.fixturenames:
        pairs = [(release, api) for release in releases for api in release.cri_versions]
        ids = [f"{release.name}-{api}" for release, api in pairs]
        metafunc.parametrize(
            ("release", "api"), pairs, indirect=["release"], ids=ids, scope="session"
        )
    else:
        ids = [release.name for release in releases]
        metafunc.parametrize("release", releases, indirect=True, ids=ids)


def _missing() -> list[str]:
    missing = [name for name in COMPONENTS if shutil.which(name) is None]
    missing += DEBIAN.missing()
    if os.geteuid() != 0:
        missing.append("root")
    if not images.BUSYBOX.exists():
        missing.append("busybox-static")
    return missing


@pytest.fixture(scope="session")
def machine() -> None:
    """A machine that has every real component: else a skip, in CI a failure."""
    if missing := _missing():
        refuse("needs " + ", ".join(missing))


def refuse(reason: str) -> None:
    """Fails in CI, skips elsewhere."""
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def room(machine: None) -> Iterator[Path]:
    """A directory with a path short enough for Unix sockets."""
    directory = Path(tempfile.mkdtemp(prefix="cri-e2e-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def registry(room: Path) -> Iterator[Registry]:
    """A plain registry with htpasswd: the hub's store. It has busybox and nginx."""
    process = Registry(room / "hub", login=HUB_LOGIN)
    process.serve()
    with process.pusher() as pusher:
        pusher.push(images.busybox("busybox"), "library/busybox", "1.36")
        pusher.push(images.busybox("nginx", user="web"), "library/nginx", "latest")
    yield process
    process.stop()


@pytest.fixture(scope="session")
def recorded_hub(registry: Registry) -> Iterator[Recorder]:
    recorder = Recorder(registry.host)
    yield recorder
    recorder.close()


@pytest.fixture
def hub(registry: Registry, recorded_hub: Recorder) -> Recorder:
    """The hub as everybody reaches it: a recorder in front of the htpasswd registry."""
    if not registry.running:
        registry.serve()
    recorded_hub.clear()
    return recorded_hub


@pytest.fixture
def second(registry: Registry) -> Iterator[Recorder]:
    """A second registry with what the hub has, under another host; its faults are its own."""
    recorder = Recorder(registry.host)
    yield recorder
    recorder.let_go()
    recorder.close()


@pytest.fixture(scope="session")
def mirror_process(room: Path, node: Containerd) -> Iterator[Registry]:
    """A second registry: https, certificate of a private CA, htpasswd."""
    certificate = issue_certificate(room / "mirror-pki")
    process = Registry(room / "mirror", login=MIRROR_LOGIN, certificate=certificate)
    process.serve()
    node.route(process.host, process.address, ca=certificate.ca)
    yield process
    process.stop()


@pytest.fixture
def mirror(mirror_process: Registry) -> Registry:
    """The second registry, running."""
    if not mirror_process.running:
        mirror_process.serve()
    return mirror_process


@pytest.fixture(scope="session")
def token_registry(room: Path) -> Iterator[Registry]:
    """A third registry, behind a token server."""
    tokens = TokenServer(room / "tokens", *TOKEN_LOGIN.split(":"))
    process = Registry(room / "token", tokens=tokens, login=TOKEN_LOGIN)
    process.serve()
    yield process
    process.stop()
    tokens.close()


@pytest.fixture(scope="session")
def release(machine: None, request: pytest.FixtureRequest) -> Release:
    """The containerd that the test runs on."""
    chosen: Release = request.param
    if missing := chosen.missing():
        refuse("needs " + ", ".join(missing))
    return chosen


@pytest.fixture(scope="session")
def node(room: Path, release: Release) -> Iterator[Containerd]:
    """The runtime; pods' pause image is there already."""
    runtime = Containerd(room / f"node-{release.name}", sandbox_image=PAUSE, release=release)
    runtime.serve()
    try:
        runtime.load(images.docker_archive(images.pause(), PAUSE, room / "pause.tar"))
        yield runtime
    finally:
        runtime.close()


@pytest.fixture(scope="session")
def recorded_public(node: Containerd) -> Iterator[Recorder]:
    recorder = Recorder()
    for domain in PUBLIC:
        node.route(domain, recorder.address)
    yield recorder
    recorder.close()


@pytest.fixture
def public(recorded_public: Recorder) -> Recorder:
    """What docker.io and quay.io are on this node: they want a login and have nothing."""
    recorded_public.clear()
    return recorded_public


@dataclass
class Direct:
    """Pulls past every shim, from public registries that for once have what the hub has.

    What they leave in containerd's image store is what a pull through a shim has to leave.
    """

    node: CriClient
    runtime: Containerd
    public: Recorder
    registry: Registry

    def leaves(self, *images: str) -> dict[str, StoreRecord]:
        """What is in the store after pulls of these, and was not before; they are gone then."""
        before = self.node.store()
        self.pull(*images)
        after = self.node.store()
        clear_node(self.runtime)
        assert self.node.store() == before, "the node has to be clear before"
        return {name: record for name, record in after.items() if name not in before}

    def pull(self, *images: str) -> None:
        """Leaves them on the node."""
        username, _, password = self.registry.login.partition(":")
        self.public.upstream = self.registry.host
        try:
            for image in images:
                self.node.pull(image, username=username, password=password)
        finally:
            self.public.upstream = ""
            self.public.clear()


@pytest.fixture
def past(
    node_client: CriClient, runtime: Containerd, public: Recorder, registry: Registry
) -> Direct:
    """What a node leaves that reaches the Internet."""
    if not registry.running:
        registry.serve()
    return Direct(node_client, runtime, public, registry)


def on_node(client: CriClient) -> dict[str, StoreRecord]:
    """All of containerd's image store but the pods' own image."""
    return {n: r for n, r in client.store().items() if n not in _pause_names(client)}


def _pause_names(client: CriClient) -> set[str]:
    view = client.image_status(PAUSE)
    assert view is not None
    return {view.id, *view.names}


@pytest.fixture
def runtime(node: Containerd, public: Recorder) -> Iterator[Containerd]:
    """The node's containerd, running, with no image but pods' own and no pod."""
    if not node.running:
        node.serve()
    clear_node(node)
    yield node
    if not node.running:
        node.serve()
    clear_node(node)


def clear_node(node: Containerd) -> None:
    """Removes every pod and every image except the pause image."""
    with CriClient(node.socket) as client:
        client.remove_pods()
        for name in client.store():
            if not name.startswith("pause.e2e/") and not name.startswith("sha256:"):
                client.store_call("Delete", {1: name})
        for image in client.images():
            if not any(tag.startswith("pause.e2e/") for tag in image.tags):
                client.remove_image(image.id)


@pytest.fixture
def direct(runtime: Containerd, tmp_path: Path) -> Crictl:
    """crictl on containerd's own socket, past any shim."""
    return Crictl(runtime.socket, tmp_path / "direct")


@pytest.fixture
def node_client(runtime: Containerd) -> Iterator[CriClient]:
    """A gRPC client on containerd's own socket."""
    with CriClient(runtime.socket) as client:
        yield client


@pytest.fixture
def via_crictl(tmp_path: Path) -> Callable[[Shim], Crictl]:
    """crictl on a shim's socket."""
    return lambda shim: Crictl(shim.socket, tmp_path / "via")


@dataclass
class Shims:
    """Starts shims in front of the node and ends them with the test."""

    directory: Path
    runtime: Containerd
    started: list[Shim]

    def make(self, config: Mapping[str, Any], runtime: Path | None = None) -> Shim:
        """A shim that is not running yet."""
        place = self.directory / f"s{len(self.started)}"
        shim = Shim(place, runtime or self.runtime.socket, config)
        self.started.append(shim)
        return shim

    def serve(self, config: Mapping[str, Any], runtime: Path | None = None) -> Shim:
        shim = self.make(config, runtime)
        shim.serve()
        return shim


@pytest.fixture
def shims(runtime: Containerd, room: Path) -> Iterator[Shims]:
    """A maker of shims."""
    if not COMMAND.exists():
        refuse(f"needs {COMMAND.name}, installed beside this Python")
    place = Path(tempfile.mkdtemp(prefix="shim-", dir=room))
    maker = Shims(place, runtime, [])
    yield maker
    for shim in maker.started:
        shim.stop()


@pytest.fixture
def hub_config(hub: Recorder) -> dict[str, Any]:
    """The usual config: one hub, http, with a password that contains a colon."""
    return {"address": hub.address, "auth": HUB_LOGIN}


@pytest.fixture
def shim(shims: Shims, hub_config: dict[str, Any]) -> Shim:
    """A shim before the node, with the hub alone."""
    return shims.serve(hub_config)


@pytest.fixture
def crictl(shim: Shim, via_crictl: Callable[[Shim], Crictl]) -> Crictl:
    """crictl on the usual shim."""
    return via_crictl(shim)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker hands over what it has to tell."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["faults"] = [astuple(fault) for fault in FAULTS]
        output["notes"] = NOTES


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Takes it; a worker that died has none."""
    output = getattr(node, "workeroutput", {})
    FAULTS.extend(Fault(*row) for row in output.get("faults", ()))
    NOTES.extend(output.get("notes", ()))


def pytest_runtest_logstart(nodeid: str) -> None:
    """Notes what runs, of all workers."""
    RUNNING.add(nodeid)


def pytest_runtest_logfinish(nodeid: str) -> None:
    """Has ended."""
    RUNNING.discard(nodeid)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of faults, for people; also in `.cache/e2e-faults.md`. What an end came upon."""
    if RUNNING:
        terminalreporter.section("begun and not ended")
        terminalreporter.write_line("\n".join(sorted(RUNNING)))
    if FAULTS or NOTES:
        terminalreporter.section("seconds until the image is there")
        terminalreporter.write_line(write_faults(Path(".cache/e2e-faults.md")))
