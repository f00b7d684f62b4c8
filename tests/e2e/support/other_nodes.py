"""The stock node with CRI-O, or with Docker and cri-dockerd, as their packages leave them."""

from __future__ import annotations

from pathlib import Path

from . import stock_node, systemd_tree
from .containerd import DEBIAN, NEWEST
from .network import Link
from .stock_node import CONTAINERD_CONFIG, DEBIAN_UNIT, HUB, HUB_PORT, StockNode
from .systemd_tree import BASE, BUILT, PACKAGES, unpacked

PLUGINS = Path("/usr/lib/cni")
NETWORK = '{"cniVersion": "0.4.0", "name": "node", "plugins": [{"type": "loopback"}]}'
UNITS = "/usr/lib/systemd/system"


class OtherNode(StockNode):
    """One whose runtime is not containerd."""

    name = ""
    programs: tuple[str, ...] = ()
    # Debian packages beside those of every tree.
    more = ""
    # The doctor's check that stops the README's command, and what the command says then.
    stops, saying = "", ""

    def __init__(self, link: Link, wheelhouse: Path) -> None:
        super().__init__(DEBIAN, link, wheelhouse)

    @classmethod
    def missing(cls) -> list[str]:
        """What this machine lacks for one, such as what `tests/e2e/stock/build NAME` builds."""
        unbuilt = [name for name in cls.programs if not (BUILT / cls.name / name).exists()]
        return [*systemd_tree.missing(), *stock_node.missing(DEBIAN), *unbuilt]

    @property
    def pause(self) -> str:
        return "registry.k8s.io/pause:3.10"

    def name_pause(self) -> None:
        """By hand: it looks for the pause image under the hub's name, if no other is to be had."""

    def forget_mends(self) -> None:
        """What was written by hand on the node goes."""

    def _base(self) -> Path:
        return unpacked(BASE.with_name(f"{self.name}-1"), f"{PACKAGES},{self.more}")

    def _install_runtime(self) -> None:
        self._install_tools()
        for name in self.programs:
            unit = name.endswith((".service", ".socket"))
            self._copy(BUILT / self.name / name, UNITS if unit else "/usr/bin")
        self._copy(PLUGINS / "loopback", "/opt/cni/bin")
        self.add("/etc/cni/net.d/10-node.conflist", NETWORK)


class CrioNode(OtherNode):
    """CRI-O with the files that its package brings."""

    name = "crio"
    endpoint = "unix:///var/run/crio/crio.sock"
    units = ("crio.service",)
    programs = ("crio", "pinns", "crio.service")
    more = "conmon,libgpgme11,iptables"
    stops, saying = "pause image", "kubelet is as it was"
    # A name without a registry is an error there, in all that CRI-O answers.
    registries = (
        'unqualified-search-registries = ["registry.example.com", "docker.io"]\n'
        'short-name-mode = "enforcing"\n'
    )

    def name_pause(self) -> None:
        name = f"{HUB}:{HUB_PORT}/{self.pause.partition('/')[2]}"
        self.add("/etc/crio/crio.conf.d/50-pause.conf", f'[crio.image]\npause_image = "{name}"\n')
        self.sh("systemctl reload crio")

    def forget_mends(self) -> None:
        self.sh("rm -f /etc/crio/crio.conf.d/50-pause.conf && systemctl reload crio")

    def _install_runtime(self) -> None:
        super()._install_runtime()
        # conmon's and runc's own, made when the first container starts.
        folders = "".join(f"d /run/{name} 0700 root root\n" for name in ("crun", "runc"))
        self.add("/etc/tmpfiles.d/containers.conf", folders)
        unit = (BUILT / self.name / "crio.service").read_text()
        self.add(f"{UNITS}/crio.service", unit.replace("/usr/local/bin/crio", "/usr/bin/crio"))
        self.add("/etc/containers/policy.json", '{"default": [{"type": "insecureAcceptAnything"}]}')
        self.add("/etc/containers/registries.conf", self.registries)
        self.add(
            "/etc/crio/crio.conf.d/10-crio.conf",
            '[crio]\nstorage_driver = "vfs"\n\n[crio.runtime]\ndefault_runtime = "runc"\n\n'
            '[crio.runtime.runtimes.runc]\nruntime_path = "/usr/local/sbin/runc"\n',
        )


class OldCrioNode(CrioNode):
    """CRI-O 1.27, of OpenShift 4.14."""

    name = "crio-27"
    registries = 'unqualified-search-registries = ["docker.io"]\n'

    @property
    def pause(self) -> str:
        return "registry.k8s.io/pause:3.9"


class DockerNode(OtherNode):
    """Debian's docker and cri-dockerd."""

    name = "docker"
    endpoint = "unix:///var/run/cri-dockerd.sock"
    units = ("docker.service", "cri-docker.socket", "cri-docker.service")
    programs = ("cri-dockerd", "cri-docker.service", "cri-docker.socket")
    more = "docker.io,iptables"
    # The containerd of docker's package answers as well.
    stops, saying = "runtime", f"set `cri: {endpoint}`"


class NewDockerNode(OtherNode):
    """Docker's own packages, and cri-dockerd; images are in containerd's store."""

    name = "docker-29"
    endpoint = DockerNode.endpoint
    units = ("containerd.service", *DockerNode.units)
    programs = (*DockerNode.programs, "dockerd", "docker-proxy", "docker.service", "docker.socket")
    more = "iptables"

    def _install_runtime(self) -> None:
        super()._install_runtime()
        for name in ("containerd", "containerd-shim-runc-v2", "ctr"):
            self._copy(NEWEST.programs / name, "/usr/bin")
        self.add(f"{UNITS}/containerd.service", DEBIAN_UNIT.read_text())
        self.add(CONTAINERD_CONFIG, 'disabled_plugins = ["cri"]\n')
        self.add("/usr/lib/sysusers.d/docker.conf", "g docker -\n")
        (self.unpacked / "var/lib/containerd").mkdir(parents=True)


OTHERS = (CrioNode, OldCrioNode, DockerNode, NewDockerNode)
