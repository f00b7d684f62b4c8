"""A node of a cluster: a Debian tree on a disk, with containerd and kubelet of its own.

It is set up as kubeadm does it. It reaches the hub and the API server, and nothing else.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sysconfig
from pathlib import Path

import yaml

from .containerd import DEBIAN, Release
from .control_plane import KUBELET, ControlPlane
from .kubelet import SETTINGS
from .kubernetes import SERVICE_IP, SERVICES, kubeconfig
from .network import Link
from .process import wait_for
from .stock_node import HUB, StockNode

PLUGINS = Path("/usr/lib/cni")
# Where each release looks for plugins unless it is told.
PLUGIN_PLACES = {DEBIAN: "usr/lib/cni"}
PKI = "/var/lib/kubelet/pki"
CA = "/etc/kubernetes/pki/ca.crt"
KUBELET_CONF = "/etc/kubernetes/kubelet.conf"
KUBELET_CONFIG = "/var/lib/kubelet/config.yaml"
# The OOM watcher wants this device. Nothing is ever in it. (No link to `null`: ProtectKernelLogs=
# hides what is there.)
UNIT = """\
[Unit]
Description=kubelet
After=network.target

[Service]
ExecStartPre=sh -c 'test -e /dev/kmsg || mknod -m 666 /dev/kmsg c 1 3'
ExecStart=/usr/bin/kubelet
Restart=always
RestartSec=10
StartLimitInterval=0

[Install]
WantedBy=multi-user.target
"""
DROP_IN = f"""\
[Service]
Environment="KUBELET_KUBECONFIG_ARGS=--kubeconfig={KUBELET_CONF}"
Environment="KUBELET_CONFIG_ARGS=--config={KUBELET_CONFIG}"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
EnvironmentFile=-/etc/default/kubelet
ExecStart=
ExecStart=/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS \
$KUBELET_EXTRA_ARGS
"""


class ClusterNode(StockNode):
    """One node; `name` is its name in the cluster, `number` the last part of its address."""

    has_disk = True

    def __init__(self, name: str, number: int, release: Release, plane: ControlPlane, link: Link):
        self.name = name
        self.number = number
        self._plane = plane
        self._routes: dict[str, str] = {SERVICES: link.ip}
        super().__init__(release, link, Path())

    def _packages(self) -> str:
        return sysconfig.get_path("platlib")

    def _install(self) -> None:
        self._install_runtime()
        self._install_project()
        shutil.copytree(PLUGINS, self.unpacked / PLUGIN_PLACES.get(self.release, "opt/cni/bin"))
        self.add("/etc/hostname", f"{self.name}\n")
        names = {"127.0.0.1": "localhost", self._link.ip: HUB, self.ip: self.name}
        self.add("/etc/hosts", "".join(f"{ip} {name}\n" for ip, name in names.items()))
        self._copy(KUBELET, "/usr/bin")
        self.add("/usr/lib/systemd/system/kubelet.service", UNIT)
        self.add("/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf", DROP_IN)
        self._install_credentials()
        self.add(KUBELET_CONFIG, yaml.safe_dump(self._settings()))
        flags = f"--node-ip={self.ip} --hostname-override={self.name} --v=2"
        self.add("/var/lib/kubelet/kubeadm-flags.env", f'KUBELET_KUBEADM_ARGS="{flags}"\n')
        (self.unpacked / "etc/kubernetes/manifests").mkdir()

    def _install_credentials(self) -> None:
        login = self._plane.node_login(self.name)
        pem = login.cert_file.read_text() + login.key_file.read_text()
        self.add(f"{PKI}/kubelet-client-current.pem", pem, 0o600)
        self.add(CA, self._plane.ca.ca_file.read_text())
        current = f"{PKI}/kubelet-client-current.pem"
        config = kubeconfig(self._plane.url, CA, current, current)
        self.add(KUBELET_CONF, yaml.safe_dump(config), 0o600)

    def _settings(self) -> dict[str, object]:
        return {
            **SETTINGS,
            "staticPodPath": "/etc/kubernetes/manifests",
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": CA},
            },
            "authorization": {"mode": "Webhook"},
        }

    def come_up(self, timeout_s: float = 60) -> None:
        """Return when its units have started what is enabled, and it has its network."""
        super().come_up(timeout_s)
        self.plug()

    def join(self) -> None:
        """Start its runtime and its kubelet, which registers it."""
        self.systemctl("enable", "--now", "containerd.service")
        self.wait_for_runtime()
        self.systemctl("enable", "--now", "kubelet.service")

    def plug(self) -> None:
        """Join it to the link and tell it the ways to the API server and to others' pods."""
        super().plug()
        for subnet, gateway in self._routes.items():
            self.route(subnet, gateway)
        # What kube-proxy would do for the one service that there is.
        to = ["-d", SERVICE_IP, "-p", "tcp", "--dport", "443", "-j", "DNAT"]
        for chain in ("PREROUTING", "OUTPUT"):
            words = ["-A", chain, *to, "--to-destination", f"{self._plane.ip}:{self._plane.port}"]
            self.in_network("iptables", "-w", "-t", "nat", *words)

    def route(self, subnet: str, gateway: str) -> None:
        """Reach a subnet by an address on the link, after a reboot too."""
        self._routes[subnet] = gateway
        self.in_network("ip", "route", "replace", subnet, "via", gateway)

    def in_network(self, *command: str) -> None:
        """Run a program of the tests' machine in its network."""
        network = f"--net={self.root.parent / 'ns/net'}"
        entered = ["nsenter", network, *command]
        done = subprocess.run(entered, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"

    def give_pods(self, subnet: str) -> None:
        """Write the network plugin's configuration, for pods in that subnet."""
        bridge = {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": subnet}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
        config = {"cniVersion": "0.4.0", "name": "cluster", "plugins": [bridge]}
        self.add("/etc/cni/net.d/10-cluster.conflist", json.dumps(config))

    def by_hand(self, *words: str, check: bool = True, timeout_s: float = 120) -> str:
        """What the project's command prints, as it was installed without the chart."""
        done = self.run(f"{self.prefix}/bin/image-cri-shim", *words, timeout_s=timeout_s)
        assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def load(self, archive: Path) -> None:
        """`ctr -n k8s.io images import` of an archive."""
        place = f"/root/{archive.name}"
        shutil.copy(archive, self.place(place))
        self.run("ctr", "-n", "k8s.io", "images", "import", place, check=True, timeout_s=300)
        self.place(place).unlink()

    def reboot(self) -> None:
        """Shut down in order, and boot again."""
        self.run("systemctl", "--no-block", "reboot", check=True)
        wait_for(f"{self.name} to be down", lambda: not self._process.running, 120)
        self.halt()
        self.boot()
