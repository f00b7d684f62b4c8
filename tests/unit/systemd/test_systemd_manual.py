"""docs/install.md says what the code knows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shimcore.runtime.containerd.release import Release
from shimcore.runtime.containerd.route import Verdict, Wanted, judge, route
from shimcore.runtime.containerd.settings import DEFAULT_FILE, read_settings
from shimcore.systemd.runtimes.distributions import embedded_kubelet
from tests.support.tls import PrivateCA
from tests.unit.systemd.machines import unpacked

MANUAL = (Path(__file__).parents[3] / "docs" / "install.md").read_text()
HTTP, HTTPS, V2, WHOLE = re.findall(r"```toml\n(.*?)```", MANUAL, re.DOTALL)
HUB, HARBOR = "sealos.hub:5000", "harbor.example.com"


@pytest.mark.parametrize(
    ("config", "release"),
    [
        ("version = 2\n" + V2, Release.V1),
        ("version = 2\n" + V2, Release.V2_1),
        (WHOLE, Release.V2_1),
    ],
)
def test_containerd_by_hand(tmp_path: Path, config: str, release: Release) -> None:
    """Typed as they stand, the files lead to the registries."""
    ca = PrivateCA(tmp_path).ca_file.read_text()
    for text, wanted in ((HTTP, Wanted("http", HUB)), (HTTPS, Wanted("https", HARBOR, ca))):
        hosts = f"/etc/containerd/certs.d/{wanted.host}/hosts.toml"
        files = {DEFAULT_FILE: config, hosts: text, "/etc/image-cri-shim/ca.pem": ca}
        root = unpacked(tmp_path / wanted.scheme, files)
        settings = read_settings(root, DEFAULT_FILE, release)
        assert judge(root, route(root, settings, wanted.host), wanted) is Verdict.FITS


@pytest.mark.parametrize(
    "directory",
    ["/var/lib/rancher/k3s", "/var/lib/rancher/rke2", "/var/snap/microk8s/current/args"],
)
def test_kubelet_of_a_distribution(tmp_path: Path, directory: str) -> None:
    """What is changed, or to be changed by hand, is the file that the manual names."""
    inside = embedded_kubelet(
        unpacked(tmp_path, {f"{directory}/x": ""}), "/var/run/image-cri-shim.sock"
    )
    assert inside is not None
    by_hand = [word for word in re.findall(r"/[\w/.-]+", inside.advice) if "/run/" not in word]
    file = next(iter([*(change.path for change in inside.changes), *by_hand]))
    assert file.rstrip(",") in MANUAL
