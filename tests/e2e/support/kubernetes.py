"""A real kube-apiserver on a real etcd, with certificates made for the run, RBAC and Node on."""

from __future__ import annotations

import contextlib
import os
import shutil
import ssl
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.tls import PrivateCA

from .process import Process, free_port, wait_for

ROOT = Path(__file__).parents[3]
BINARY = Path(os.environ.get("KUBE_APISERVER", ROOT / ".cache" / "kube-apiserver"))
START_S = 90.0
SERVICES, SERVICE_IP = "10.96.0.0/24", "10.96.0.1"


@dataclass(frozen=True)
class Programs:
    """What a control plane is made of."""

    etcd: Path = Path("etcd")
    apiserver: Path = BINARY


@dataclass(frozen=True)
class Login:
    """A client's certificate and key, in PEM files."""

    cert_file: Path
    key_file: Path


class Cluster:
    """etcd and kube-apiserver in `folder`; started, stopped and started again at one port."""

    def __init__(
        self, folder: Path, *, ip: str = "127.0.0.1", programs: Programs | None = None
    ) -> None:
        self.folder = folder
        self.ip = ip
        self.ca = PrivateCA(folder, "cluster")
        self.server = self.ca.issue(ip, SERVICE_IP, common_name="kube-apiserver")
        self.admin = self.login("admin", "system:masters")
        self.port = free_port(ip)
        self._programs = programs or Programs()
        self._etcd_ports = (free_port(), free_port())
        self._processes: dict[str, Process] = {}
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
        return f"https://{self.ip}:{self.port}"

    def login(self, name: str, group: str) -> Login:
        """A client certificate: the user is its common name, the group its organization."""
        issued = self.ca.issue(common_name=name, organization=group)
        return Login(issued.cert_file, issued.key_file)

    def start(self) -> None:
        """Start what is not running; returns once the API server is ready."""
        client, peer = (f"http://127.0.0.1:{port}" for port in self._etcd_ports)
        self._run(
            "etcd",
            *(str(self._programs.etcd), "--data-dir", str(self.folder / "etcd")),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--unsafe-no-fsync"),
        )
        self._run(
            "kube-apiserver",
            str(self._programs.apiserver),
            f"--etcd-servers={client}",
            f"--secure-port={self.port}",
            f"--bind-address={self.ip}",
            f"--advertise-address={self.ip}",
            # It serves no Service: newer ones refuse to name a loopback address there.
            "--endpoint-reconciler-type=none",
            "--authorization-mode=Node,RBAC",
            f"--client-ca-file={self.ca.ca_file}",
            f"--tls-cert-file={self.server.cert_file}",
            f"--tls-private-key-file={self.server.key_file}",
            "--service-account-issuer=https://cluster.example",
            f"--service-account-key-file={self._account_key}",
            f"--service-account-signing-key-file={self._account_key}",
            f"--service-cluster-ip-range={SERVICES}",
            f"--cert-dir={self.folder}",
            *self._more(),
        )
        self._await_ready()

    def _more(self) -> list[str]:
        """More arguments of the API server."""
        return []

    def stop(self, name: str = "kube-apiserver") -> None:
        """SIGTERM one of the two, and wait."""
        if process := self._processes.pop(name, None):
            process.stop(30)

    def close(self) -> None:
        """Stop both."""
        self.stop()
        self.stop("etcd")

    def kubeconfig(self, path: Path, login: Login) -> Path:
        """Write a kubeconfig such as kubelet's, its certificates in files."""
        files = (str(self.ca.ca_file), str(login.cert_file), str(login.key_file))
        tree = kubeconfig(self.url, *files)
        path.write_text(yaml.safe_dump(tree))
        path.chmod(0o600)
        return path

    def client(self, login: Login) -> httpx.Client:
        """A plain HTTP client with that login."""
        context = ssl.create_default_context(cafile=str(self.ca.ca_file))
        context.load_cert_chain(login.cert_file, login.key_file)
        return httpx.Client(base_url=self.url, verify=context, timeout=30, trust_env=False)

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
            process = Process(name, command, self.folder / f"{name}.log")
            process.start()
            self._processes[name] = process

    def _await_ready(self) -> None:
        server = self._processes["kube-apiserver"]
        with self.client(self.admin) as client:
            wait_for(server.name, lambda: not server.running or self._is_ready(client), START_S)
        assert server.running, server.tail()

    def _is_ready(self, client: httpx.Client) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return client.get("/readyz").is_success and self._has_namespace(client)
        return False

    def _has_namespace(self, client: httpx.Client) -> bool:
        return client.get("/api/v1/namespaces/kube-system").is_success


def kubeconfig(server: str, ca: str, certificate: str, key: str) -> dict[str, object]:
    """A kubeconfig such as kubelet's, its certificates in files."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "node",
        "clusters": [{"name": "it", "cluster": {"server": server, "certificate-authority": ca}}],
        "users": [{"name": "node", "user": {"client-certificate": certificate, "client-key": key}}],
        "contexts": [{"name": "node", "context": {"cluster": "it", "user": "node"}}],
    }


def missing() -> str:
    """What is not here that a cluster needs; empty when all is."""
    if not shutil.which("etcd"):
        return "etcd (Debian's etcd-server)"
    return "" if BINARY.exists() else f"{BINARY} (tests/e2e/apiserver/build)"


def _path(manifest: dict[str, object]) -> str:
    version, kind = str(manifest["apiVersion"]), str(manifest["kind"])
    root = "/api/v1" if version == "v1" else f"/apis/{version}"
    return f"{root}/namespaces/kube-system/{kind.lower()}s"
