"""The stock node with k3s, or with k0s: one machine that is a whole cluster."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from .containerd import DEBIAN
from .other_nodes import PLUGINS, UNITS, OtherNode
from .process import wait_for
from .stock_node import RUNC_HERE
from .systemd_tree import BUILT

# What a kubelet needs in namespaces without cgroup controllers (`support.kubelet.SETTINGS`).
ARGUMENTS = ("cgroups-per-qos=false", "enforce-node-allocatable=", "oom-score-adj=0")
WIRED = "--container-runtime-endpoint=unix:///var/run/image-cri-shim.sock"
NETWORK = {
    "cniVersion": "0.4.0",
    "name": "pods",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.42.0.0/24"}]]},
        }
    ],
}


class DistributionNode(OtherNode):
    """One whose kubelet is a part of something else, with a control plane of its own."""

    more = "iptables,ca-certificates,kmod"
    answers_s = 120
    # As its documentation has it.
    kubectl = ""
    # Whether the README's command leaves kubelet to the operator.
    by_hand = False

    def plug(self) -> None:
        """With a way out, which both look for, and a name."""
        super().plug()
        words = ["route", "add", "default", "via", self._link.ip]
        network = self.root.parent / "ns/net"
        command = ["nsenter", f"--net={network}", "ip", *words]
        subprocess.run(command, check=True, capture_output=True)
        # The OOM watcher wants this device.
        self.sh("hostname node && mknod -m 666 /dev/kmsg c 1 3")
        self.set_up()

    def set_up(self) -> None:
        """What is typed on it before its service is started."""

    def wire_by_hand(self) -> None:
        """As the command says it."""

    def unwire_by_hand(self) -> None:
        """The way back."""

    def ready(self) -> bool:
        """Whether its runtime answers, and its kubelet has said that it is well."""
        if self.crictl("version", endpoint=self.endpoint).returncode:
            return False
        done = self.sh(f"{self.kubectl} get nodes", check=False)
        return any(line.split()[1:2] == ["Ready"] for line in done.stdout.splitlines())

    def apply(self, pod: dict[str, Any]) -> None:
        """Give it to the API server."""
        name = pod["metadata"]["name"]
        self.add(f"/root/{name}.json", json.dumps({"apiVersion": "v1", "kind": "Pod", **pod}))
        applied = f"{self.kubectl} apply -f /root/{name}.json"
        wait_for("the API server", lambda: self.sh(applied, check=False).returncode == 0, 60)

    def status(self, name: str) -> dict[str, Any]:
        """Of a pod, as the API server has it; empty where that does not say."""
        done = self.sh(f"{self.kubectl} get pod {name} -o json", check=False)
        found: dict[str, Any] = json.loads(done.stdout)["status"] if done.stdout else {}
        return found

    def _install_runtime(self) -> None:
        self._install_tools()
        for name in ("bridge", "host-local", "loopback"):
            self._copy(PLUGINS / name, "/opt/cni/bin")
        self.add("/etc/cni/net.d/10-node.conflist", json.dumps(NETWORK))
        (self.unpacked / self.store.lstrip("/")).mkdir(parents=True)


class K3sNode(DistributionNode):
    """A server that is an agent, too; without what it runs in pods."""

    name = "k3s"
    endpoint = "unix:///run/k3s/containerd/containerd.sock"
    units = ("k3s.service",)
    programs = ("k3s", "k3s.service")
    store = "/var/lib/rancher"
    kubectl = "kubectl"

    @property
    def pause(self) -> str:
        return "rancher/mirrored-pause:3.6"

    def _install_runtime(self) -> None:
        super()._install_runtime()
        self._copy(BUILT / self.name / "k3s", "/usr/local/bin")
        (self.unpacked / "usr/local/bin/kubectl").symlink_to("k3s")
        self._copy(BUILT / self.name / "k3s.service", UNITS)
        for name in ("containerd", "containerd-shim-runc-v2"):
            self._copy(DEBIAN.programs / name, "/usr/bin")
        settings = {
            "flannel-backend": "none",
            "disable-kube-proxy": True,
            "disable-network-policy": True,
            "disable-cloud-controller": True,
            "disable-helm-controller": True,
            "disable": ["coredns", "servicelb", "traefik", "local-storage", "metrics-server"],
            "kubelet-arg": list(ARGUMENTS),
        }
        self.add("/etc/rancher/k3s/config.yaml", json.dumps(settings))


class K0sNode(DistributionNode):
    """A controller that is a worker, too; its programs are where it unpacks them."""

    name = "k0s"
    endpoint = "unix:///run/k0s/containerd.sock"
    units = ("k0scontroller.service",)
    programs = (
        "k0s",
        "kine",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kubelet",
    )
    store = "/var/lib/k0s/containerd"
    kubectl = "k0s kubectl"
    by_hand = True
    unit = "/etc/systemd/system/k0scontroller.service"

    @property
    def pause(self) -> str:
        return "registry.k8s.io/pause:3.10"

    def set_up(self) -> None:
        without = (
            "konnectivity-server,coredns,metrics-server,autopilot,helm,windows-node,"
            "update-prober,applier-manager,endpoint-reconciler"
        )
        self.sh(
            "k0s install controller --single --config=/etc/k0s/k0s.yaml "
            f"--disable-components={without}"
        )
        arguments = " ".join(f"--{each}" for each in ARGUMENTS)
        more = f'--ignore-pre-flight-checks "--kubelet-extra-args={arguments}"'
        self._edit("--single=true", f"--single=true {more}")

    def wire_by_hand(self) -> None:
        self._edit("-args=", f"-args={WIRED} ")
        self.systemctl("restart", "k0scontroller")

    def unwire_by_hand(self) -> None:
        self._edit(f"{WIRED} ", "")
        self.systemctl("restart", "k0scontroller")

    def _install_runtime(self) -> None:
        super()._install_runtime()
        self._copy(BUILT / self.name / "k0s", "/usr/local/bin")
        own = [BUILT / self.name / name for name in self.programs if name != "k0s"]
        runtime = [DEBIAN.programs / name for name in ("containerd", "containerd-shim-runc-v2")]
        for program in (*own, *runtime):
            self._copy(program, "/var/lib/k0s/bin")
        self.add("/var/lib/k0s/bin/runc", RUNC_HERE, 0o755)
        spec = {
            "network": {"provider": "custom", "kubeProxy": {"disabled": True}},
            "telemetry": {"enabled": False},
            "images": {"pause": {"image": "registry.k8s.io/pause", "version": "3.10"}},
        }
        kind = {"apiVersion": "k0s.k0sproject.io/v1beta1", "kind": "ClusterConfig"}
        config = {**kind, "metadata": {"name": "k0s"}, "spec": spec}
        self.add("/etc/k0s/k0s.yaml", json.dumps(config))

    def _edit(self, old: str, new: str) -> None:
        """Its unit, as `systemctl edit --full` does."""
        text = self.place(self.unit).read_text()
        assert old in text, text
        self.place(self.unit).write_text(text.replace(old, new, 1))
        self.systemctl("daemon-reload")


DISTRIBUTIONS = (K3sNode, K0sNode)
