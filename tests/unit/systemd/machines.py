"""Unpacked machines to install on, and a systemd that notes what it is asked."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from shimcore.errors import ShimError
from shimcore.systemd.install import Request
from shimcore.systemd.root import Root

CONFIG = "/etc/image-cri-shim.yaml"
FILLED = "address: http://sealos.hub:5000\n"
SHIM = "unix:///var/run/image-cri-shim.sock"
CONTAINERD = "unix:///run/containerd/containerd.sock"
ROOTS = "Name:\tkubelet\nUid:\t0\t0\t0\t0\n"
"""What proc(5)'s status has of a process of root's."""

KUBELET_UNIT = """\
[Unit]
Description=kubelet: The Kubernetes Node Agent

[Service]
ExecStart=/usr/bin/kubelet
Restart=always
"""
KUBEADM_DROP_IN = """\
# Note: This dropin only works with kubeadm and kubelet v1.11+
[Service]
Environment="KUBELET_KUBECONFIG_ARGS=--kubeconfig=/etc/kubernetes/kubelet.conf"
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
# This is a file that "kubeadm init" and "kubeadm join" generates at runtime
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
EnvironmentFile=-/etc/default/kubelet
ExecStart=
ExecStart=/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS \\
  $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS
"""
KUBEADM_CONFIG = """\
apiVersion: kubelet.config.k8s.io/v1beta1
authentication:
  anonymous:
    enabled: false   # never
cgroupDriver: systemd
clusterDNS:
- 10.96.0.10
containerRuntimeEndpoint: ""
kind: KubeletConfiguration
"""
KUBEADM_FLAGS = (
    f'KUBELET_KUBEADM_ARGS="--container-runtime-endpoint={CONTAINERD} '
    '--pod-infra-container-image=registry.k8s.io/pause:3.9"\n'
)
KUBEADM = {
    "/usr/lib/systemd/system/kubelet.service": KUBELET_UNIT,
    "/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf": KUBEADM_DROP_IN,
    "/var/lib/kubelet/config.yaml": KUBEADM_CONFIG,
    "/var/lib/kubelet/kubeadm-flags.env": KUBEADM_FLAGS,
    "/etc/default/kubelet": "KUBELET_EXTRA_ARGS=\n",
}


def unpacked(directory: Path, files: dict[str, str]) -> Root:
    """A root with these files in it."""
    for path, text in files.items():
        place = directory / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(text.encode())
    return Root(directory)


def request(
    root: Root, *, wire: bool = True, runtime: bool = False, force: bool = False
) -> Request:
    """The usual installation."""
    return Request(
        root=root,
        config_file=CONFIG,
        command="/usr/local/bin/image-cri-shim",
        completions={"/usr/local/share/fish/vendor_completions.d/image-cri-shim.fish": "# fish\n"},
        wire_kubelet=wire,
        wire_runtime=runtime,
        force=force,
    )


def tree(root: Root) -> dict[str, tuple[object, ...]]:
    """Everything below the root: kind and mode, owner, content."""
    found: dict[str, tuple[object, ...]] = {}
    for place in sorted(root.directory.rglob("*")):
        status = place.lstat()
        content: object = None
        if place.is_symlink():
            content = os.readlink(place)
        elif place.is_file():
            content = place.read_bytes()
        name = "/" + str(place.relative_to(root.directory))
        found[name] = (oct(status.st_mode), status.st_uid, status.st_gid, content)
    return found


class KilledError(BaseException):
    """The process ends in the midst, as no handler of errors sees it."""


class NotedSystemd:
    """systemd as the installation sees it."""

    def __init__(self, active: Iterable[str] = (), fails: str = "", killed: str = "") -> None:
        self.active = set(active)
        self.asked: list[str] = []
        self._fails = fails
        self._killed = killed

    def run(self, *arguments: str, timeout_s: float | None = None) -> None:
        """Note it, and let the unit be active or not."""
        said = " ".join(arguments)
        if said == self._killed:
            raise KilledError
        self.asked.append(said)
        if said == self._fails:
            raise ShimError(f"systemctl {said}: no")
        if arguments[0] in ("start", "restart"):
            self.active.update(arguments[1:])
        elif arguments[0] == "stop":
            self.active.difference_update(arguments[1:])

    def is_active(self, unit: str) -> bool:
        """Whether it was started last."""
        return unit in self.active
