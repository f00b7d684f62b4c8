"""A real kube-apiserver on a real etcd, with certificates made for the run, RBAC and Node on."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.tls import PrivateCA

ROOT = Path(__file__).parents[3]
BINARY = Path(os.environ.get("KUBE_APISERVER", ROOT / ".cache" / "kube-apiserver"))
START_S = 90.0


@dataclass(frozen=True)
class Login:
    """A client's certificate and key, in PEM files."""

    cert_file: Path
    key_file: Path


class Cluster:
    """etcd and kube-apiserver in `folder`; started, stopped and started again at one port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = PrivateCA(folder, "cluster")
        self.server = self.ca.issue("127.0.0.1", common_name="kube-apiserver")
        self.admin = self.login("admin", "system:masters")
        self._etcd_port, self._peer_port, self.port = _free_port(), _free_port(), _free_port()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._account_key = folder / "accounts.key"
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._account_key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )

    @property
    def url(self) -> str:
        """Where the API server listens."""
        return f"https://127.0.0.1:{self.port}"

    def login(self, name: str, group: str) -> Login:
        """A client certificate: the user is its common name, the group its organization."""
        issued = self.ca.issue(common_name=name, organization=group)
        return Login(issued.cert_file, issued.key_file)

    def start(self) -> None:
        """Start what is not running; returns once the API server is ready."""
        self._run(
            "etcd",
            *("etcd", "--data-dir", str(self.folder / "etcd")),
            *("--listen-client-urls", f"http://127.0.0.1:{self._etcd_port}"),
            *("--advertise-client-urls", f"http://127.0.0.1:{self._etcd_port}"),
            *("--listen-peer-urls", f"http://127.0.0.1:{self._peer_port}"),
            *("--unsafe-no-fsync",),
        )
        self._run(
            "kube-apiserver",
            str(BINARY),
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            f"--secure-port={self.port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            # It serves no Service: newer ones refuse to name a loopback address there.
            "--endpoint-reconciler-type=none",
            "--authorization-mode=Node,RBAC",
            f"--client-ca-file={self.ca.ca_file}",
            f"--tls-cert-file={self.server.cert_file}",
            f"--tls-private-key-file={self.server.key_file}",
            "--service-account-issuer=https://cluster.example",
            f"--service-account-key-file={self._account_key}",
            f"--service-account-signing-key-file={self._account_key}",
            "--service-cluster-ip-range=10.96.0.0/24",
            f"--cert-dir={self.folder}",
        )
        self._await_ready()

    def stop(self, name: str = "kube-apiserver") -> None:
        """SIGTERM one of the two, and wait."""
        process = self._processes.pop(name, None)
        if process is not None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def close(self) -> None:
        """Stop both."""
        self.stop()
        self.stop("etcd")

    def kubeconfig(self, path: Path, login: Login) -> Path:
        """Write a kubeconfig such as kubelet's, its certificates in files."""
        tree = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "node",
            "clusters": [
                {
                    "name": "it",
                    "cluster": {
                        "server": self.url,
                        "certificate-authority": str(self.ca.ca_file),
                    },
                }
            ],
            "users": [
                {
                    "name": "node",
                    "user": {
                        "client-certificate": str(login.cert_file),
                        "client-key": str(login.key_file),
                    },
                }
            ],
            "contexts": [{"name": "node", "context": {"cluster": "it", "user": "node"}}],
        }
        path.write_text(yaml.safe_dump(tree))
        path.chmod(0o600)
        return path

    def client(self, login: Login) -> httpx.Client:
        """A plain HTTP client with that login."""
        context = ssl.create_default_context(cafile=str(self.ca.ca_file))
        context.load_cert_chain(login.cert_file, login.key_file)
        return httpx.Client(base_url=self.url, verify=context, timeout=30)

    def apply(self, manifest: dict[str, object]) -> None:
        """Create or replace one object, as the administrator."""
        with self.client(self.admin) as client:
            path = _path(manifest)
            metadata = manifest["metadata"]
            assert isinstance(metadata, dict)
            answer = client.put(f"{path}/{metadata['name']}", json=manifest)
            if answer.status_code == 404:
                answer = client.post(path, json=manifest)
            assert answer.is_success, answer.text

    def apply_file(self, path: Path) -> None:
        """Every object of a file."""
        for manifest in yaml.safe_load_all(path.read_text()):
            self.apply(manifest)

    def delete(self, kind: str, name: str = "image-cri-shim") -> None:
        """Delete one object of kube-system."""
        with self.client(self.admin) as client:
            path = f"/api/v1/namespaces/kube-system/{kind.lower()}s/{name}"
            assert client.delete(path).is_success

    def _run(self, name: str, *command: str) -> None:
        if name not in self._processes:
            with (self.folder / f"{name}.log").open("ab") as log:
                self._processes[name] = subprocess.Popen(
                    command, stdout=log, stderr=log, cwd=self.folder
                )

    def _await_ready(self) -> None:
        deadline = time.monotonic() + START_S
        with self.client(self.admin) as client:
            while time.monotonic() < deadline:
                process = self._processes["kube-apiserver"]
                assert process.poll() is None, self._log()
                try:
                    if client.get("/readyz").is_success and self._has_namespace(client):
                        return
                except httpx.HTTPError:
                    pass
                time.sleep(0.2)
        raise AssertionError(f"kube-apiserver is not ready:\n{self._log()}")

    def _has_namespace(self, client: httpx.Client) -> bool:
        return client.get("/api/v1/namespaces/kube-system").is_success

    def _log(self) -> str:
        return (self.folder / "kube-apiserver.log").read_text(errors="replace")[-4000:]


def missing() -> str:
    """What is not here that a cluster needs; empty when all is."""
    if not shutil.which("etcd"):
        return "etcd (Debian's etcd-server)"
    return "" if BINARY.exists() else f"{BINARY} (tests/e2e/apiserver/build)"


def _path(manifest: dict[str, object]) -> str:
    version, kind = str(manifest["apiVersion"]), str(manifest["kind"])
    root = "/api/v1" if version == "v1" else f"/apis/{version}"
    return f"{root}/namespaces/kube-system/{kind.lower()}s"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
