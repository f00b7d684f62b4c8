"""The stock node with k3s, or with k0s: a whole cluster, or one that joins another machine's."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, ClassVar

from .containerd import DEBIAN
from .network import Link
from .other_nodes import PLUGINS, OtherNode
from .process import wait_for
from .stock_node import RUNC_HERE
from .systemd_tree import BUILT, Done

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
    """One whose kubelet is a part of something else."""

    more = "iptables,ca-certificates,kmod"
    answers_s = 120
    # As its documentation has it.
    kubectl = ""
    # Whether the README's command leaves kubelet to the operator.
    by_hand = False
    hostname = "node"
    # The machine that it joins, where it has no control plane of its own.
    joins: ClassVar[type[DistributionNode] | None] = None

    def __init__(self, link: Link, wheelhouse: Path) -> None:
        self.control = self
        super().__init__(link, wheelhouse)

    def plug(self) -> None:
        """With a way out, which both look for, and a name."""
        super().plug()
        words = ["route", "add", "default", "via", self._link.ip]
        network = self.root.parent / "ns/net"
        command = ["nsenter", f"--net={network}", "ip", *words]
        subprocess.run(command, check=True, capture_output=True)
        # The OOM watcher wants this device.
        self.sh(f"hostname {self.hostname} && mknod -m 666 /dev/kmsg c 1 3")
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
        done = self.kube("get nodes", check=False)
        return any(line.split()[1:2] == ["Ready"] for line in done.stdout.splitlines())

    def kube(self, line: str, *, check: bool = True) -> Done:
        """`kubectl line`, where the control plane is."""
        return self.control.sh(f"{self.kubectl} {line}", check=check)

    def serves(self) -> bool:
        """Whether its API server does."""
        return self.kube("get --raw /readyz", check=False).returncode == 0

    def apply(self, pod: dict[str, Any]) -> None:
        """Give it to the API server."""
        file = f"/root/{pod['metadata']['name']}.json"
        self.control.add(file, json.dumps({"apiVersion": "v1", "kind": "Pod", **pod}))
        applied = f"apply -f {file}"
        wait_for("the API server", lambda: self.kube(applied, check=False).returncode == 0, 60)

    def status(self, name: str) -> dict[str, Any]:
        """Of a pod, as the API server has it; empty where that does not say."""
        done = self.kube(f"get pod {name} -o json", check=False)
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
    programs = ("k3s", "install.sh")
    store = "/var/lib/rancher"
    kubectl = "kubectl"
    more_settings: ClassVar[dict[str, Any]] = {}

    @property
    def pause(self) -> str:
        return "rancher/mirrored-pause:3.6"

    def _install_runtime(self) -> None:
        super()._install_runtime()
        self._copy(BUILT / self.name / "k3s", "/usr/local/bin")
        self._copy(BUILT / self.name / "install.sh", "/root")
        for name in ("containerd", "containerd-shim-runc-v2"):
            self._copy(DEBIAN.programs / name, "/usr/bin")

    def set_up(self) -> None:
        """By the script that its documentation has, without what that would load."""
        settings = {
            "flannel-backend": "none",
            "disable-kube-proxy": True,
            "disable-network-policy": True,
            "disable-cloud-controller": True,
            "disable-helm-controller": True,
            "disable": ["coredns", "servicelb", "traefik", "local-storage", "metrics-server"],
            "kubelet-arg": list(ARGUMENTS),
            **self.more_settings,
        }
        self.add("/etc/rancher/k3s/config.yaml", json.dumps(settings))
        self._carry_out()

    def _carry_out(self, **variables: str) -> None:
        skipped = {"INSTALL_K3S_SKIP_DOWNLOAD": "true", "INSTALL_K3S_SKIP_START": "true"}
        words = [f"{name}={value}" for name, value in {**skipped, **variables}.items()]
        self.run("env", *words, "sh", "/root/install.sh", check=True)


class K3sServerNode(K3sNode):
    """A server alone."""

    number = 3
    hostname = "server"
    more_settings: ClassVar[dict[str, Any]] = {"disable-agent": True}


class K3sAgentNode(K3sNode):
    """An agent alone."""

    units = ("k3s-agent.service",)
    joins = K3sServerNode

    def set_up(self) -> None:
        self.add("/etc/rancher/k3s/config.yaml", json.dumps({"kubelet-arg": list(ARGUMENTS)}))
        token = self.control.sh("cat /var/lib/rancher/k3s/server/node-token").stdout.strip()
        self._carry_out(K3S_URL=f"https://{self.control.ip}:6443", K3S_TOKEN=token)


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

    @property
    def pause(self) -> str:
        return "registry.k8s.io/pause:3.10"

    def set_up(self) -> None:
        self._control("--single")
        self._work("--single=true")

    def _control(self, *words: str) -> None:
        without = (
            "konnectivity-server,coredns,metrics-server,autopilot,helm,windows-node,"
            "update-prober,applier-manager,endpoint-reconciler"
        )
        control = ("controller", "--config=/etc/k0s/k0s.yaml", f"--disable-components={without}")
        self.run("k0s", "install", *control, *words, check=True)

    def _work(self, before: str) -> None:
        """What it needs to be a worker here, in its unit after a word."""
        arguments = " ".join(f"--{each}" for each in ARGUMENTS)
        more = f'--ignore-pre-flight-checks "--kubelet-extra-args={arguments}"'
        self._edit(before, f"{before} {more}")

    def wire_by_hand(self) -> None:
        self._edit("-args=", f"-args={WIRED} ")
        self.systemctl("restart", *self.units)

    def unwire_by_hand(self) -> None:
        self._edit(f"{WIRED} ", "")
        self.systemctl("restart", *self.units)

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
            "storage": {"type": "kine"},
            "images": {"pause": {"image": "registry.k8s.io/pause", "version": "3.10"}},
        }
        kind = {"apiVersion": "k0s.k0sproject.io/v1beta1", "kind": "ClusterConfig"}
        config = {**kind, "metadata": {"name": "k0s"}, "spec": spec}
        self.add("/etc/k0s/k0s.yaml", json.dumps(config))

    def _edit(self, old: str, new: str) -> None:
        """Its unit, as `systemctl edit --full` does."""
        unit = self.place(f"/etc/systemd/system/{self.units[0]}")
        text = unit.read_text()
        assert old in text, text
        unit.write_text(text.replace(old, new, 1))
        self.systemctl("daemon-reload")


class K0sControllerNode(K0sNode):
    """A controller alone."""

    number = 3
    hostname = "controller"

    def set_up(self) -> None:
        self._control()


class K0sWorkerNode(K0sNode):
    """A worker alone."""

    units = ("k0sworker.service",)
    joins = K0sControllerNode

    def set_up(self) -> None:
        token = self.control.sh("k0s token create --role=worker").stdout
        self.add("/etc/k0s/token", token, 0o600)
        self.sh("k0s install worker --token-file=/etc/k0s/token")
        self._work("--token-file=/etc/k0s/token")


DISTRIBUTIONS = (K3sNode, K3sAgentNode, K0sNode, K0sWorkerNode)
