"""A node for `doctor` to look at: a tree of files, a hub, a runtime that is called containerd."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from shimcore.client.admin import Condition, Endpoint, Status
from shimcore.cluster.starting import begin
from shimcore.doctor import Node, examine
from shimcore.doctor.finding import Finding
from shimcore.errors import ConfigError
from shimcore.pb import cri_pb2
from shimcore.runtime.errors import StatusCode
from shimcore.systemd.root import Root
from tests.support.scripted_registry import ScriptedRegistry
from tests.support.scripted_runtime import ScriptedRuntime
from tests.support.standin_rpc import StatusError

USERS = {"admin": "hub-s3cret"}
PAUSE = "127.0.0.1:9/pause:3.9"
SHIM = "/run/image-cri-shim.sock"
CONTAINERD = "/run/containerd/containerd.sock"
KUBELET = "/var/lib/kubelet/config.yaml"
WIRED = {
    "/etc/systemd/system/image-cri-shim.service": "[Service]\nExecStart=/usr/bin/shim serve\n",
    "/usr/bin/shim": "",
    "/etc/crictl.yaml": f"runtime-endpoint: unix://{SHIM}\nimage-endpoint: unix://{SHIM}\n",
    KUBELET: f"containerRuntimeEndpoint: unix://{SHIM}\n",
}


def name_runtime(runtime: ScriptedRuntime, name: str, version: str) -> None:
    """What it calls itself from now on."""
    answer = cri_pb2.VersionResponse(
        version="0.1.0", runtime_name=name, runtime_version=version, runtime_api_version="v1"
    ).SerializeToString()

    async def told(*_: object) -> bytes:
        return answer

    runtime.overrides["RuntimeService/Version"] = told


class World:
    """All is well with it, until a test changes something."""

    def __init__(self, folder: Path, hub: ScriptedRegistry, runtime: ScriptedRuntime) -> None:
        self.hub = hub
        self.runtime = runtime
        self.folder = folder
        self.root = Root(folder / "root")
        self.proc = folder / "proc"
        self.proc.mkdir()
        self.file = folder / "shim.yaml"
        self.keys: dict[str, Any] = {
            "address": hub.address,
            "auth": "admin:hub-s3cret",
            "cri": runtime.socket_path,
            "stateDir": str(folder / "state"),
            "sandboxImage": PAUSE,
            "probeTimeout": "2s",
        }
        self.text = ""
        """Of the configuration, instead of `keys`."""
        self.condition = Condition.SERVING
        self.detail: tuple[str, ...] = ()
        self.facts: dict[str, Any] = {"serving": True, "config": {"valid": True}}
        self.status_error = ""
        self.shim_socket = runtime.socket_path
        self.admin_socket = str(folder / "no.admin")
        self.name("containerd", "1.6.20")
        for path, text in WIRED.items():
            self.put(path, text)

    def name(self, name: str, version: str) -> None:
        """What the runtime calls itself."""
        name_runtime(self.runtime, name, version)

    def put(self, path: str, text: str) -> None:
        """A file of the node."""
        place = self.root.directory / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def kubelet(self, *arguments: str, program: str = "/usr/bin/kubelet") -> None:
        """A kubelet, or what has one inside, that runs with these arguments."""
        folder = self.proc / "4711"
        folder.mkdir(exist_ok=True)
        words = [program, *arguments]
        if program == "/usr/bin/kubelet":
            words.insert(1, f"--config={KUBELET}")
        (folder / "cmdline").write_text("\0".join(words) + "\0")
        (folder / "status").write_text("Name:\tkubelet\nUid:\t0\t0\t0\t0\n")

    def fails(self, method: str, code: StatusCode, text: str) -> None:
        """The runtime answers a method with a status."""

        async def refuse(*_: object) -> bytes:
            raise StatusError(code, text)

        self.runtime.overrides[method] = refuse

    def kubernetes(self, state: str, detail: str = "", error: str = "") -> None:
        """What the running shim says of the cluster's part."""
        kubeconfig = self.folder / "kubeconfig"
        kubeconfig.write_text("{}")
        self.keys["kubernetes"] = {"enabled": True, "kubeconfig": str(kubeconfig)}
        told = {"state": state, "detail": detail, "error": error}
        self.facts["config"]["kubernetes"] = told

    def node(self) -> Node:
        """As `node_of` would have it."""
        if not self.file.exists():
            self.file.touch(0o600)
            self.file.write_text(self.text or yaml.safe_dump(self.keys))
        start, error = None, None
        try:
            start = begin(str(self.file))
            error = start.file_error
        except ConfigError as fault:
            error = fault
        status = Status(self.condition, self.facts, self.detail)
        return Node(
            endpoint=Endpoint(str(self.file), self.shim_socket, self.admin_socket),
            root=self.root,
            proc=self.proc,
            start=start,
            config_error=error,
            status=None if self.status_error else status,
            status_error=self.status_error,
            status_refused="permission denied" in self.status_error,
        )

    async def examined(self, pull: str = "") -> list[Finding]:
        """What doctor says; its kubelet is pointed at the node's own socket."""
        node = self.node()
        found = await examine(node, pull=pull)
        # Kubelet's files name the path that a real node has.
        wired = replace(
            node, endpoint=Endpoint(node.endpoint.file, SHIM, node.endpoint.admin_socket)
        )
        from shimcore.doctor import kubelet  # noqa: PLC0415 - beside its use

        return [one for one in found if one.check not in {"kubelet", "crictl"}] + list(
            await kubelet.look(wired)
        )


@contextlib.asynccontextmanager
async def world(folder: Path, *, image_store: bool = True) -> AsyncIterator[World]:
    """A healthy node: a hub with a login, which has the pause image and `web:v1`."""
    (folder / "root").mkdir()
    runtime = ScriptedRuntime(os.path.join(folder, "r.sock"), image_store=image_store)
    async with ScriptedRegistry(users=USERS, auth="basic") as hub, runtime:
        hub.add_image("pause", "3.9")
        hub.add_image("library/web", "v1")
        yield World(folder, hub, runtime)
