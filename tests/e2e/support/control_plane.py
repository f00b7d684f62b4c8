"""A whole control plane on the tests' machine, for nodes that reach it at one of its addresses."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from .containerd import LIBRARY
from .kubernetes import SERVICES, Cluster, Login, Programs
from .process import free_port

# tests/e2e/cluster/build puts them there.
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
BIN = CACHE / LIBRARY.name / "bin"
NAMES = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
KUBECTL, KUBELET = Path(os.environ.get("KUBECTL", BIN / "kubectl")), BIN / "kubelet"


class ControlPlane(Cluster):
    """etcd, kube-apiserver, kube-controller-manager and kube-scheduler in `folder`.

    The pods' addresses are in `pods`; the controllers give each node a /24 of it.
    """

    def __init__(self, folder: Path, *, ip: str, pods: str) -> None:
        self._pods = pods
        super().__init__(folder, ip=ip, programs=Programs(BIN / "etcd", BIN / "kube-apiserver"))
        self._to_kubelets = self.login("kube-apiserver-kubelet-client", "system:masters")
        self.admin_file = self.kubeconfig(folder / "admin.conf", self.admin)

    def start(self) -> None:
        """Start what is not running; returns once the API server is ready."""
        super().start()
        for name, more in (
            ("kube-controller-manager", self._of_controllers()),
            ("kube-scheduler", []),
        ):
            login = self.login(f"system:{name}", f"system:{name}")
            kubeconfig = self.kubeconfig(self.folder / f"{name}.conf", login)
            self._run(
                name,
                str(BIN / name),
                f"--kubeconfig={kubeconfig}",
                "--leader-elect=false",
                "--bind-address=127.0.0.1",
                f"--secure-port={free_port()}",
                f"--cert-dir={self.folder}",
                *more,
            )

    def close(self) -> None:
        """Stop all of it."""
        for name in ("kube-scheduler", "kube-controller-manager"):
            self.stop(name)
        super().close()

    def kubectl(
        self, *words: str, given: str = "", check: bool = True, timeout_s: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """One run of kubectl as the administrator; `given` is what it reads."""
        done = subprocess.run(
            self.kubectl_command(*words),
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        assert not check or done.returncode == 0, f"kubectl {words}: {done.stdout}{done.stderr}"
        return done

    def kubectl_command(self, *words: str) -> list[str]:
        """The command line of `kubectl words…` as the administrator."""
        return [str(KUBECTL), f"--kubeconfig={self.admin_file}", *words]

    def get(self, *words: str) -> Any:
        """What `kubectl get words… -o json` prints."""
        return json.loads(self.kubectl("get", *words, "-o", "json").stdout)

    def node_login(self, node: str) -> Login:
        """kubelet's credentials on that node."""
        return self.login(f"system:node:{node}", "system:nodes")

    def _of_controllers(self) -> list[str]:
        return [
            "--use-service-account-credentials",
            f"--service-account-private-key-file={self._account_key}",
            f"--root-ca-file={self.ca.ca_file}",
            "--allocate-node-cidrs",
            f"--cluster-cidr={self._pods}",
            f"--service-cluster-ip-range={SERVICES}",
        ]

    def _more(self) -> list[str]:
        return [
            "--allow-privileged",
            "--enable-admission-plugins=NodeRestriction",
            f"--kubelet-client-certificate={self._to_kubelets.cert_file}",
            f"--kubelet-client-key={self._to_kubelets.key_file}",
            "--kubelet-preferred-address-types=InternalIP",
        ]


def missing() -> list[str]:
    """What tests/e2e/cluster/build has not built yet."""
    wanted = [BIN / name for name in NAMES] + [KUBECTL, KUBELET]
    return [str(path) for path in wanted if not path.exists()]
