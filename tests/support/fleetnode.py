"""Nodes of a roll-out: a folder for the root, and a scripted switch in place of systemd."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from shimcore.cluster.kubeconfig import Kubeconfig
from shimcore.fleet.agent import Agent, Settings
from shimcore.fleet.api import Api
from shimcore.fleet.bundle import Bundle
from shimcore.fleet.host import Done, Host
from shimcore.fleet.queue import Queue
from shimcore.fleet.records import Records
from shimcore.fleet.report import Outlet
from shimcore.fleet.switchfiles import SwitchFiles
from shimcore.fleet.values import FleetError
from shimcore.switch.exchange import ROOM, VERSIONS, Revision
from tests.support.fleetapi import NAMESPACE, TOKEN, FleetApi

FOLDER = ROOM.removeprefix("/")
FILES = {"image-cri-shim": b"#!/bin/sh\n", "_internal/base.zip": b"library" * 100}


def make_bundle(folder: Path, version: str) -> Bundle:
    """An image's bundle, with its sums."""
    place = folder / f"bundle-{version}"
    lines = []
    for name, content in FILES.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content + version.encode())
        path.chmod(0o755)
        lines.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {name}\n")
    sums = place.with_name(place.name + ".sha256")
    sums.write_text("".join(lines))
    return Bundle(place, sums, version)


@dataclass
class ScriptedSwitch:
    """What the node's systemd does: each start of the switch has the outcome that is told."""

    root: Path
    outcome: Callable[[dict[str, Any]], str] = lambda request: (
        "removed" if request["mode"] == "remove" else "healthy"
    )
    takes_s: float = 0.05
    bypass: str = "inactive"
    service: str = "inactive"
    refuses: str = ""
    dies: bool = False
    began: list[dict[str, Any]] = field(default_factory=list)
    running: asyncio.Task[None] | None = None
    watching: Callable[[str], None] = lambda what: None

    async def run(self, *words: str) -> Done:
        """The commands that an agent has run."""
        if words[0] == "systemd-run":
            return self._start(words)
        if words == ("systemctl", "is-active", "image-cri-shim-switch.service"):
            is_running = self.running is not None and not self.running.done()
            return Done(0 if is_running else 3, "active\n" if is_running else "inactive\n")
        if words[:2] == ("systemctl", "is-active"):
            return Done(0, f"{self.bypass}\n{self.service}\n")
        raise FleetError(f"unexpected: {words}")

    def _start(self, words: tuple[str, ...]) -> Done:
        if self.refuses:
            return Done(1, self.refuses)
        command = self.root / words[-3].lstrip("/")
        assert command.exists(), "the switch is started before the bundle is there"
        request = json.loads((self.root / FOLDER / "request.json").read_text())
        self.began.append(request)
        self.running = asyncio.get_running_loop().create_task(self._switch(request))
        return Done(0, "")

    async def _switch(self, request: dict[str, Any]) -> None:
        if self.dies:
            return
        self.watching("began")
        self.say(request, "running")
        await asyncio.sleep(self.takes_s)
        outcome = self.outcome(request)
        if outcome == "healthy":
            self.service = "active"
        elif outcome == "removed":
            shutil.rmtree(self.root / VERSIONS.removeprefix("/"))
        self.watching("ended")
        if outcome != "silence":
            self.say(request, outcome)

    def say(self, request: dict[str, Any], phase: str) -> None:
        """Write state.json."""
        version = request["version"] if phase == "healthy" else None
        state = {
            "revision": request["revision"],
            "version": version,
            "phase": phase,
            "step": "doctor",
            "detail": "as the test says",
            "at": request["at"],
        }
        path = self.root / FOLDER / "state.json"
        path.with_suffix(".new").write_text(json.dumps(state))
        path.with_suffix(".new").rename(path)


class DirectApi(Api):
    """The stand-in, asked without a connection: what a pod does is looked at, not how it asks."""

    def __init__(self, api: FleetApi) -> None:
        super().__init__(Kubeconfig("http://127.0.0.1:9"))
        self._stand_in = api

    async def whole(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        await asyncio.sleep(0)
        login = {"Authorization": f"Bearer {TOKEN}", "Accept": (headers or {}).get("Accept", "")}
        target = f"{path}?{urlencode(query)}" if query else path
        code, body = self._stand_in.answer(method, target, login, content or b"")
        self.now = self._stand_in.now
        if code >= 300:
            self.raise_for(code, str(body.get("message", "")))
        return body


class FleetNode:
    """A node, and the pods that run there one after the other."""

    def __init__(
        self, folder: Path, name: str, api: FleetApi, *, control_plane: bool = False
    ) -> None:
        self.name = name
        self.folder = folder / name
        self.root = self.folder / "root"
        for path in ("etc", "run/systemd/system", "usr/lib/systemd/system"):
            (self.root / path).mkdir(parents=True)
        (self.root / "etc/os-release").write_text('NAME="A Linux"\nID=debian\n')
        self.switch = ScriptedSwitch(self.root)
        self.api = api
        self.ready_file = self.folder / "ready"
        self.message_file = self.folder / "termination-log"
        self.node_file = self.folder / "image-cri-shim.yaml"
        self.pod: asyncio.Task[None] | None = None
        self._client: Api | None = None
        api.add_node(name, control_plane=control_plane)

    def agent(self, revision: str = "r1", version: str = "1.0.0") -> Agent:
        """A pod's work."""
        self._client = self._client or DirectApi(self.api)
        records = Records(self._client, NAMESPACE, "image-cri-shim")
        queue = Queue(records, SwitchFiles(self.root), self.name, random.Random(self.name))
        bundle = make_bundle(self.folder, version)
        settings = Settings(self.name, Revision(revision), bundle, self.node_file)
        outlet = Outlet(self.ready_file, self.message_file)
        return Agent(settings, records, Host(self.root, self.switch.run), queue, outlet)

    def start(self, revision: str = "r1", version: str = "1.0.0") -> None:
        """Start a pod."""
        self.pod = asyncio.get_running_loop().create_task(self.agent(revision, version).run())

    async def kill(self) -> None:
        """End the pod, at once."""
        if self.pod is not None:
            self.pod.cancel()
            await asyncio.gather(self.pod, return_exceptions=True)
            self.pod = None
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def asks(self, client: Api) -> None:
        """Have the next pod ask by this client."""
        self._client = client

    @property
    def labels(self) -> dict[str, str]:
        """The project's labels of the node."""
        return self.api.labels(self.name)

    @property
    def version(self) -> str | None:
        """What its label says."""
        return self.labels.get("version")
