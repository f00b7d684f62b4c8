"""What runs on a cluster while something is done to it, and what that did to it."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .bed import Bed

APP = {"app": "web"}
ROLLED_S = 180


def deployment(name: str, image: str, *, replicas: int = 3, policy: str = "") -> str:
    """A Deployment with a pod on each node, as JSON for `kubectl apply`."""
    labels = {"app": name}
    container: dict[str, Any] = {"name": "main", "image": image}
    if policy:
        container["imagePullPolicy"] = policy
    apart = {
        "labelSelector": {"matchLabels": labels},
        "topologyKey": "kubernetes.io/hostname",
    }
    spec = {
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "affinity": {
            "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}
        },
        "containers": [container],
    }
    manifest = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }
    return json.dumps(manifest)


@contextlib.contextmanager
def deployed(bed: Bed, name: str, image: str, **more: Any) -> Iterator[list[dict[str, Any]]]:
    """The pods of a Deployment that is rolled out; it is gone afterwards, and so are its pods."""
    bed.plane.kubectl("apply", "-f", "-", given=deployment(name, image, **more))
    try:
        rolled = bed.plane.kubectl(
            *("rollout", "status", f"deployment/{name}", f"--timeout={ROLLED_S}s"),
            check=False,
            timeout_s=ROLLED_S + 30,
        )
        assert rolled.returncode == 0, rolled.stdout + explain(bed, name)
        yield bed.pods("-l", f"app={name}")
    finally:
        gone = ("--cascade=foreground", f"--timeout={ROLLED_S}s")
        bed.plane.kubectl("delete", "deployment", name, *gone, timeout_s=ROLLED_S + 30)


def explain(bed: Bed, name: str) -> str:
    """What the cluster says of the pods of a Deployment."""
    return bed.plane.kubectl("describe", "pods", "-l", f"app={name}").stdout[-6000:]


def restarts(pods: list[dict[str, Any]]) -> dict[str, int]:
    """Name of each pod → how often its containers were started again."""
    return {
        pod["metadata"]["name"]: sum(
            one["restartCount"] for one in pod["status"].get("containerStatuses", [])
        )
        for pod in pods
    }


def containers(pods: list[dict[str, Any]]) -> set[str]:
    """The ids of all containers of the pods: one that was started again has another."""
    return {
        one["containerID"] for pod in pods for one in pod["status"].get("containerStatuses", [])
    }


@dataclass
class Readiness:
    """Of each node and of each pod: the periods in which it was not Ready."""

    gaps: dict[str, list[float]] = field(default_factory=dict)

    @property
    def worst_s(self) -> float:
        """The longest one, 0 if there was none."""
        return max((gap for gaps in self.gaps.values() for gap in gaps), default=0.0)


class Watch(threading.Thread):
    """Asks the API server ten times a second who is not Ready."""

    def __init__(self, bed: Bed, selector: str) -> None:
        super().__init__(daemon=True)
        self.nodes, self.pods = Readiness(), Readiness()
        self._paths = {
            "/api/v1/nodes": self.nodes,
            f"/api/v1/pods?labelSelector={selector}": self.pods,
        }
        self._client = bed.plane.client(bed.plane.admin)
        self._over = threading.Event()
        self._since: dict[str, float] = {}

    def run(self) -> None:
        """Until `stop`."""
        while not self._over.wait(0.1):
            for path, seen in self._paths.items():
                for one in self._client.get(path).json()["items"]:
                    self._note(seen, one)

    def stop(self) -> None:
        """Ends it; who is not Ready yet has a gap until now."""
        self._over.set()
        self.join()
        for path, seen in self._paths.items():
            for one in self._client.get(path).json()["items"]:
                self._note(seen, one, at_end=True)
        self._client.close()

    def _note(self, seen: Readiness, one: dict[str, Any], *, at_end: bool = False) -> None:
        name = one["metadata"]["name"]
        conditions = one["status"].get("conditions", [])
        ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
        if not ready:
            self._since.setdefault(name, time.monotonic())
        if (ready or at_end) and (since := self._since.pop(name, None)) is not None:
            seen.gaps.setdefault(name, []).append(time.monotonic() - since)


@contextlib.contextmanager
def watched(bed: Bed, app: str) -> Iterator[Watch]:
    """Nodes, and pods with that label `app`, are looked at all the time."""
    watch = Watch(bed, f"app={app}")
    watch.start()
    try:
        yield watch
    finally:
        watch.stop()
