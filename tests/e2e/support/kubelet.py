"""A real kubelet without an API server: static pods from a folder, in front of any CRI socket."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import yaml

from .process import POLL_S, Process, free_port

ROOT = Path(__file__).parents[3]
BINARY = Path(os.environ.get("KUBELET", ROOT / ".cache" / "kubelet"))
KUBEADM = Path(os.environ.get("KUBEADM", BINARY.with_name("kubeadm")))
# What kubelet writes in /proc/sys when it starts, and folders that it has no setting for.
SYSCTLS = ("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops")
FOLDERS = (Path("/var/lib/kubelet/device-plugins"), Path("/var/log/containers"))
NEVER_EVICT = ("memory.available", "nodefs.available", "nodefs.inodesFree", "imagefs.available")

# What a kubelet needs where cgroups are version 1 or have no controllers, and CAP_SYS_RESOURCE is
# missing; and what keeps a full disk of the tests' machine from mattering.
SETTINGS: dict[str, Any] = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    "cgroupDriver": "cgroupfs",
    "cgroupsPerQOS": False,
    "enforceNodeAllocatable": [],
    "failCgroupV1": False,
    "failSwapOn": False,
    "oomScoreAdj": 0,
    "localStorageCapacityIsolation": False,
    "makeIPTablesUtilChains": False,
    "resolvConf": "",
    "imageGCHighThresholdPercent": 100,
    "evictionHard": dict.fromkeys(NEVER_EVICT, "0%"),
}


class Kubelet(Process):
    """One kubelet; files, ports and everything else that can be set are its own."""

    def __init__(self, directory: Path, cri: Path) -> None:
        self.directory = directory
        self.manifests = directory / "manifests"
        self.manifests.mkdir(parents=True)
        self._pods = f"http://127.0.0.1:{(port := free_port())}/pods"
        self._healthz_port = free_port()
        config = directory / "kubelet.yaml"
        config.write_text(yaml.safe_dump(self._config(cri, port)))
        self._sysctls: dict[Path, str] = {}
        command: list[str | Path] = [
            BINARY,
            *("--config", config, "--root-dir", directory / "root", "--v", "2"),
            *("--cert-dir", directory / "pki", "--hostname-override", "e2e"),
        ]
        super().__init__("kubelet", command, directory / "log")

    def _config(self, cri: Path, read_only_port: int) -> dict[str, Any]:
        return {
            **SETTINGS,
            "staticPodPath": str(self.manifests),
            "fileCheckFrequency": "1s",
            "syncFrequency": "10s",
            "podLogsDir": str(self.directory / "logs"),
            "volumePluginDir": str(self.directory / "plugins"),
            "containerRuntimeEndpoint": f"unix://{cri}",
            "address": "127.0.0.1",
            "port": free_port(),
            "readOnlyPort": read_only_port,
            "healthzPort": self._healthz_port,
            "authentication": {"webhook": {"enabled": False}, "anonymous": {"enabled": True}},
            "authorization": {"mode": "AlwaysAllow"},
        }

    def serve(self, timeout_s: float = 60) -> float:
        """Seconds until it says that it is healthy."""
        for name in SYSCTLS:
            path = Path("/proc/sys", name)
            self._sysctls.setdefault(path, path.read_text())
        return self.start(self._is_healthy, timeout_s)

    def _is_healthy(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            url = f"http://127.0.0.1:{self._healthz_port}/healthz"
            return httpx.get(url, trust_env=False).status_code == 200
        return False

    def run(self, pod: dict[str, Any]) -> str:
        """Gives it a static pod; the pod's name in its answers."""
        name = pod["metadata"]["name"]
        draft = self.manifests / f".{name}.json"
        draft.write_text(json.dumps(pod))
        draft.rename(self.manifests / f"{name}.json")
        return f"{name}-e2e"

    def pods(self) -> dict[str, dict[str, Any]]:
        """Name → pod with status, as its read-only port gives them."""
        answer = httpx.get(self._pods, timeout=10, trust_env=False).json()
        return {pod["metadata"]["name"]: pod for pod in answer.get("items") or []}

    def status(self, pod: str) -> dict[str, Any]:
        """The pod's status, empty while there is none."""
        status: dict[str, Any] = self.pods().get(pod, {}).get("status", {})
        return status

    def wait_until_running(self, pod: str, timeout_s: float = 60) -> float:
        """Seconds until its container runs; an AssertionError says why it does not."""
        started = time.monotonic()
        while not (status := self.status(pod)) or not _runs(status):
            if time.monotonic() - started > timeout_s:
                raise AssertionError(f"{pod} does not run:\n{self._explain(pod, status)}")
            time.sleep(POLL_S * 5)
        return time.monotonic() - started

    def wait_until_waiting(self, pod: str, *reasons: str, timeout_s: float = 60) -> str:
        """The message of its container once it waits for one of these reasons."""
        started = time.monotonic()
        while True:
            waiting = waits(status := self.status(pod))
            if waiting.get("reason") in reasons:
                return str(waiting.get("message", ""))
            if time.monotonic() - started > timeout_s:
                why = self._explain(pod, status)
                raise AssertionError(f"{pod} does not wait for {reasons}:\n{why}")
            time.sleep(POLL_S * 5)

    def _explain(self, pod: str, status: dict[str, Any]) -> str:
        """The pod's status and kubelet's last error that names it."""
        shown = {"phase": status.get("phase"), "containers": containers(status)}
        errors = [line for line in self.text().splitlines() if line[:1] == "E" and pod in line]
        return "\n".join([json.dumps(shown, indent=1), *(line[:2000] for line in errors[-1:])])

    def pull_records(self) -> list[dict[str, Any]]:
        """Its ImagePulledRecords: whose secrets brought which image."""
        folder = self.directory / "root" / "image_manager" / "pulled"
        return [json.loads(path.read_text()) for path in sorted(folder.glob("sha256-*"))]

    def pull_intents(self) -> list[str]:
        """Files of pulls that are not over."""
        return os.listdir(self.directory / "root" / "image_manager" / "pulling")

    def close(self) -> None:
        """Stops it, and leaves the machine as it was; pods run on."""
        self.stop()
        for path, value in self._sysctls.items():
            path.write_text(value)
        for link in FOLDERS[1].glob("*"):
            if link.is_symlink() and str(self.directory) in os.readlink(link):
                link.unlink()
        with contextlib.suppress(OSError):  # not there, or others' things in it
            for name in ("kubelet.sock", "kubelet_internal_checkpoint", "DEPRECATION"):
                (FOLDERS[0] / name).unlink(missing_ok=True)
            for folder in (*FOLDERS, FOLDERS[0].parent):
                folder.rmdir()


def pod(
    name: str,
    image: str,
    *,
    policy: str = "IfNotPresent",
    volume: str = "",
) -> dict[str, Any]:
    """A static pod that runs until it is stopped; with `volume`, an image mounted at /volume."""
    container: dict[str, Any] = {
        "name": "main",
        "image": image,
        "imagePullPolicy": policy,
        "command": ["sh", "-c", "exec sleep 100000"],
    }
    spec: dict[str, Any] = {"terminationGracePeriodSeconds": 1, "containers": [container]}
    if volume:
        source = {"reference": volume, "pullPolicy": policy}
        spec["volumes"] = [{"name": "image", "image": source}]
        container["volumeMounts"] = [{"name": "image", "mountPath": "/volume"}]
        container["command"] = ["sh", "-c", "cat /volume/marker && exec sleep 100000"]
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def containers(status: dict[str, Any]) -> list[dict[str, Any]]:
    """The statuses of a pod's containers."""
    found: list[dict[str, Any]] = status.get("containerStatuses", [])
    return found


def waits(status: dict[str, Any]) -> dict[str, Any]:
    """Reason and message for which the pod's container waits, or nothing."""
    for container in containers(status):
        waiting: dict[str, Any] = container["state"].get("waiting", {})
        return waiting
    return {}


def kubeadm(*arguments: str | Path, timeout_s: float = 120) -> str:
    """What `kubeadm` prints; an AssertionError with its errors when it fails."""
    ran = subprocess.run(
        [KUBEADM, *arguments], capture_output=True, text=True, check=False, timeout=timeout_s
    )
    assert ran.returncode == 0, f"kubeadm {arguments}: {ran.stderr}"
    return ran.stdout


def missing() -> str:
    """What is not built; empty when all is."""
    names = [str(path) for path in (BINARY, KUBEADM) if not path.exists()]
    return f"{', '.join(names)} (tests/e2e/kubelet/build)" if names else ""


def _runs(status: dict[str, Any]) -> bool:
    found = containers(status)
    return bool(found) and all("running" in container["state"] for container in found)
