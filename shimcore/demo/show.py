"""The flow of `demo`: a kubelet asks the real shim for an image, and a hub gives it.

A registry that wants a password and a stand-in runtime run in this process; the shim between
them is a process of its own, the real `serve`. Everything lives in a temporary folder.
"""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import yaml

from shimcore.demo.process import DemoError, serving
from shimcore.demo.registry import DemoRegistry
from shimcore.demo.runtime import StandInRuntime
from shimcore.errors import ShimError
from shimcore.pb import cri_pb2
from shimcore.runtime.client import RuntimeClient
from shimcore.runtime.values import ImageOnNode

T = TypeVar("T")

IMAGE = "nginx:latest"
HUB_USER = "admin"
KUBELET_USER = "someone-at-docker-hub"

CALL_TIMEOUT_S = 20.0
# Room for `/shim.sock.admin.lock` below the 107 bytes of a socket's path (unix(7)).
_FOLDER_LIMIT_BYTES = 60

Say = Callable[[str, str], None]
"""Told each step as it is done: what was done, and what was seen."""


@dataclass(frozen=True, slots=True)
class Pull:
    """One pull: the name asked for, the name that reached the runtime, where it came from."""

    asked: str
    pulled_as: str
    registry: str
    elapsed_s: float


async def show(shim: Sequence[str], environment: Mapping[str, str], say: Say) -> tuple[Pull, ...]:
    """The pulls of one demo. Raises DemoError where something differs from what it should be.

    `shim` is the command line of image-cri-shim, to which `-f FILE serve` is added, and
    `environment` what it needs beside this process's own.
    """
    password = secrets.token_urlsafe(16)
    with tempfile.TemporaryDirectory(prefix="shim-demo-", dir=_short_folder()) as name:
        folder = Path(name)
        runtime = StandInRuntime(str(folder / "runtime.sock"))
        with DemoRegistry(HUB_USER, password) as hub:
            digest = hub.add_image("library/nginx", "latest", b"the demo's nginx\n")
            say("a hub that wants a password", f"{hub.address}, with library/{IMAGE}")
            say("a stand-in for the container runtime", runtime.socket_path)
            config = _write_config(folder, hub, runtime, password)
            command = [*shim, "-f", str(config), "serve"]
            socket = folder / "shim.sock"
            async with (
                runtime,
                serving(command, environment, socket, folder / "log") as waited_s,
                RuntimeClient(str(socket)) as kubelet,
            ):
                say("the real shim between them", f"{socket}, ready in {waited_s * 1000:.0f} ms")
                return await _Node(hub, runtime, kubelet, say).play(digest)


def _short_folder() -> str | None:
    """A folder whose sockets have legal paths: the system's for temporary files, or /tmp."""
    usual = tempfile.gettempdir()
    return None if len(os.fsencode(usual)) <= _FOLDER_LIMIT_BYTES else "/tmp"  # noqa: S108


def _write_config(folder: Path, hub: DemoRegistry, runtime: StandInRuntime, password: str) -> Path:
    values = {
        "shim": str(folder / "shim.sock"),
        "cri": runtime.socket_path,
        "address": hub.address,
        "auth": f"{HUB_USER}:{password}",
        "stateDir": str(folder / "state"),
    }
    path = folder / "config.yaml"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(values))
    return path


class _Node:
    """kubelet's side of the demo, and a look at what came out at the other one."""

    def __init__(
        self, hub: DemoRegistry, runtime: StandInRuntime, kubelet: RuntimeClient, say: Say
    ) -> None:
        self._kubelet = kubelet
        self._hub = hub
        self._runtime = runtime
        self._say = say

    async def play(self, digest: str) -> tuple[Pull, ...]:
        version = await _answer(self._kubelet.version(CALL_TIMEOUT_S))
        self._say("kubelet: who is there?", f"{version.name} {version.version}, as without a shim")
        await self._expect_absent()
        first = await self._pull()
        self._say(f"kubelet: pull {IMAGE}", f"the runtime was asked for {first.pulled_as}")
        self._check_logins()
        await self._expect_present(digest)
        await self._expect_name_in_runtime()
        second = await self._pull()
        self._say(f"kubelet: pull {IMAGE} again", f"{second.elapsed_s * 1000:.0f} ms")
        return first, second

    async def _expect_absent(self) -> None:
        before = len(self._hub.users)
        if await self._status(self._kubelet) is not None:
            raise DemoError(f"{IMAGE} is on the node before anything was pulled")
        if len(self._hub.users) != before:
            raise DemoError("the hub was asked for an image status; only the node should be")
        self._say(f"kubelet: is {IMAGE} here?", "no (no registry was asked)")

    async def _pull(self) -> Pull:
        """Pull as kubelet does, with the login that a pod has for the image's own registry."""
        login = cri_pb2.AuthConfig(username=KUBELET_USER, password="not for the hub")  # noqa: S106
        request = cri_pb2.PullImageRequest(image=cri_pb2.ImageSpec(image=IMAGE), auth=login)
        self._runtime.pulls.clear()
        started = time.monotonic()
        await _answer(
            self._kubelet.pull_image(request.SerializeToString(), timeout_s=CALL_TIMEOUT_S)
        )
        elapsed_s = time.monotonic() - started
        if not self._runtime.pulls:
            raise DemoError("the pull never reached the runtime")
        pulled_as = self._runtime.pulls[-1].image.image
        expected = f"{self._hub.host}/library/{IMAGE}"
        if pulled_as != expected:
            raise DemoError(f"the runtime was asked for {pulled_as}, not for {expected}")
        return Pull(IMAGE, pulled_as, self._hub.host, elapsed_s)

    def _check_logins(self) -> None:
        """See that the hub was given its own login, and that kubelet's reached nobody."""
        seen = set(self._hub.users)
        sent = {request.auth.username for request in self._runtime.pulls}
        if HUB_USER not in seen or HUB_USER not in sent:
            raise DemoError("the hub was not given its own login")
        if KUBELET_USER in seen | sent:
            raise DemoError("the hub was given the login that kubelet sent for another registry")
        self._say(
            f"the hub let {HUB_USER} in, with the password from the shim's configuration",
            "kubelet's own login for Docker Hub stayed away from it",
        )

    async def _expect_present(self, digest: str) -> None:
        found = await self._status(self._kubelet)
        if found is None:
            raise DemoError(f"{IMAGE} was pulled, but kubelet is told that it is not here")
        if not any(each.endswith(digest) for each in found.repo_digests):
            raise DemoError(f"{IMAGE} is here with another digest than the hub's, {digest}")
        self._say(f"kubelet: is {IMAGE} here?", f"yes, {digest[:19]}…")

    async def _expect_name_in_runtime(self) -> None:
        """See that the runtime itself knows the image by its own name and by no other."""
        async with RuntimeClient(self._runtime.socket_path) as direct:
            found = await self._status(direct)
        if found is None:
            raise DemoError(f"the runtime was not told that the image is {IMAGE}")
        if any(name.startswith(self._hub.host) for name in found.repo_tags + found.repo_digests):
            raise DemoError("the image still has the hub's name")
        asked = f"the runtime, asked past the shim: is {IMAGE} here?"
        self._say(asked, "yes, by that name and no other")

    async def _status(self, client: RuntimeClient) -> ImageOnNode | None:
        return await _answer(client.image_status(IMAGE, timeout_s=CALL_TIMEOUT_S))


async def _answer(call: Awaitable[T]) -> T:
    try:
        return await call
    except DemoError:
        raise
    except ShimError as error:
        raise DemoError(str(error)) from error
