"""The OCI image of the bundle, on a node that reaches no registry and in the hub."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import HUB_LOGIN
from tests.e2e.support.containerd import Containerd, Release
from tests.e2e.support.crictl import Crictl
from tests.e2e.support.packages import built
from tests.e2e.support.recorder import Recorder
from tests.e2e.support.systemd_tree import PROJECT

pytestmark = pytest.mark.e2e

NAME = "docker.io/library/image-cri-shim"
BUILD_S = 300


@pytest.fixture(scope="module")
def tarball() -> Path:
    """The bundle of these sources."""
    (path,) = built().glob("image-cri-shim-*-linux-*.tar.gz")
    return path


@pytest.fixture(scope="module")
def archive(tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its image, as `make image` builds it."""
    return _image(tarball, tmp_path_factory.mktemp("image"))


def _image(tarball: Path, out: Path) -> Path:
    command = [PROJECT / "packaging/image", tarball, out]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("*.oci.tar")
    return path


def test_the_same_sources_give_the_same_bytes(tarball: Path, archive: Path, tmp_path: Path) -> None:
    """Built once more, it is the same file."""
    assert _image(tarball, tmp_path).read_bytes() == archive.read_bytes()


@pytest.mark.releases
def test_a_node_has_it_by_hand(
    archive: Path, node: Containerd, direct: Crictl, release: Release
) -> None:
    """As docs/fleet.md has it: under the chart's name, and pinned where the runtime knows pins."""
    node.ctr("images", "import", archive)
    version = archive.name.split("-")[3]
    image = f"{NAME}:{version}"
    pinned = ("images", "label", image, "io.cri-containerd.pinned=pinned")
    node.ctr(*pinned)
    images = direct.json("images")["images"]
    (found,) = [each for each in images if image in each["repoTags"]]
    assert found["pinned"] == release.pins
    node.ctr("images", "rm", image)


def test_it_runs_in_its_own_root(archive: Path, tmp_path: Path) -> None:
    """With nothing of a system but what is in it: the command, and what the chart calls."""
    layout, tree = tmp_path / "layout", tmp_path / "tree"
    layout.mkdir()
    subprocess.run(["tar", "--extract", f"--file={archive}", f"--directory={layout}"], check=True)
    version = archive.name.split("-")[3]
    subprocess.run(["umoci", "unpack", "--image", f"{layout}:{version}", tree], check=True)
    root = tree / "rootfs"

    def inside(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [shutil.which("chroot") or "chroot", root, *words],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": "/bin", "NODE_NAME": "n1", "FLEET_REVISION": "r1"},
        )

    assert inside("/bundle/image-cri-shim", "--version").stdout == f"image-cri-shim {version}\n"
    assert inside("test", "-e", "/run/fleet/ready").returncode == 1
    assert inside("chroot", "/", "test", "-e", "/bundle.sha256").returncode == 0
    agent = inside("/bundle/image-cri-shim", "fleet", "agent")
    assert "/host: the node's root is not mounted there" in agent.stderr
    sums = (root / "bundle.sha256").read_text()
    checked = subprocess.run(
        ["sha256sum", "--check", "--quiet"], input=sums, text=True, cwd=root / "bundle", check=False
    )
    assert checked.returncode == 0


def test_skopeo_takes_it_to_a_hub(archive: Path, hub: Recorder, tmp_path: Path) -> None:
    """On plain http, with a password; what is there is the same image."""
    policy = tmp_path / "policy.json"
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    target = f"docker://{hub.host}/library/image-cri-shim:test"
    copy = ("copy", "--dest-tls-verify=false", f"--dest-creds={HUB_LOGIN}")
    _skopeo(policy, *copy, f"oci-archive:{archive}", target)
    inspect = ("inspect", "--format={{.Digest}}")
    there = _skopeo(policy, *inspect, "--tls-verify=false", f"--creds={HUB_LOGIN}", target)
    assert there == _skopeo(policy, *inspect, f"oci-archive:{archive}")


def _skopeo(policy: Path, *words: str) -> str:
    command = ["skopeo", "--policy", str(policy), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
