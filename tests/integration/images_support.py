"""A node for image calls: a hub, a mirror and the original registry over real HTTP, and the
stand-in runtime on a real socket; this support plays the relay between them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from shimcore.config import Config, parse_config
from shimcore.heldcall import Decision, Forward, Refuse
from shimcore.images.names import Names
from shimcore.images.service import ImageService
from shimcore.pb import cri_pb2
from shimcore.registry.client import RegistryClient
from shimcore.runtime.client import RuntimeClient
from shimcore.runtime.errors import RuntimeCallError
from tests.support.cri import remove_image
from tests.support.registry_puller import RegistryPuller
from tests.support.scripted_registry import ScriptedRegistry
from tests.support.scripted_runtime import ScriptedRuntime

HUB_LOGIN = {"hub-user": "hub:pass"}
MIRROR_LOGIN = {"mirror-user": "mirror-pass"}
ORIGIN_LOGIN = {"caller": "callers-secret"}
CALLER = {"username": "caller", "password": "callers-secret"}


@dataclass
class Pulled:
    """How a pull ended: `name` is what the runtime was asked for last."""

    name: str
    code: int
    text: str
    seconds: float


@dataclass
class Node:
    """Everything of one node; `origin` is what the runtime finds behind docker.io."""

    hub: ScriptedRegistry
    mirror: ScriptedRegistry
    origin: ScriptedRegistry
    runtime: ScriptedRuntime
    client: RuntimeClient
    config: Config
    registries: RegistryClient = field(init=False)
    naming: Names = field(init=False)
    service: ImageService = field(init=False)

    def __post_init__(self) -> None:
        self.registries = RegistryClient(
            self.config.registries, probe_timeout_s=self.config.probe_timeout_s
        )
        self.naming = Names(self.client)
        self.service = ImageService(self.config, self.registries, self.client, self.naming)

    async def restart(self, text: str | None = None) -> None:
        """A new shim, which remembers nothing; `text` is added to its config."""
        await self.registries.aclose()
        if text is not None:
            self.config = config_of(self.hub, self.mirror, text)
        self.__post_init__()

    async def pull(
        self,
        image: str,
        auth: Mapping[str, str] | None = None,
        *,
        timeout_s: float | None = None,
        api: str = "v1",
    ) -> Pulled:
        """One PullImage, from the caller's request to the runtime's answer."""
        request = cri_pb2.PullImageRequest(image=cri_pb2.ImageSpec(image=image))
        if auth:
            for key, value in auth.items():
                setattr(request.auth, key, value)
        message = request.SerializeToString()
        started = time.monotonic()
        call = self.service.open(f"/runtime.{api}.ImageService/PullImage", message, timeout_s)
        decision = call.decide_now() or await call.decide()
        if isinstance(decision, Refuse):
            return Pulled("", decision.code, decision.text, time.monotonic() - started)
        code, text = 0, ""
        if isinstance(decision, Forward):
            sent = decision.message or message
            try:
                await self.client.pull_image(sent, timeout_s=timeout_s)
            except RuntimeCallError as error:
                code, text = error.code, error.details
            call.finished(code, False, text)
        seconds = time.monotonic() - started
        return Pulled(self.asked_runtime()[-1], code, text, seconds)

    async def decide(self, image: str) -> Decision:
        """The decision about a pull, which goes no further."""
        request = cri_pb2.PullImageRequest(image=cri_pb2.ImageSpec(image=image))
        call = self.service.open(
            "/runtime.v1.ImageService/PullImage", request.SerializeToString(), None
        )
        return call.decide_now() or await call.decide()

    async def question(self, image: str) -> tuple[str, bool]:
        """One ImageStatus: the name under which it went on, and whether the image is there."""
        message = cri_pb2.ImageStatusRequest(image=cri_pb2.ImageSpec(image=image))
        name = await self._found("ImageService/ImageStatus", message.SerializeToString(), image)
        return name, await self.client.image_status(name, timeout_s=5) is not None

    async def remove(self, image: str) -> str:
        """One RemoveImage: the name under which it went on."""
        message = cri_pb2.RemoveImageRequest(image=cri_pb2.ImageSpec(image=image))
        name = await self._found("ImageService/RemoveImage", message.SerializeToString(), image)
        await remove_image(self.client.socket, name)
        return name

    async def _found(self, method: str, message: bytes, image: str) -> str:
        call = self.service.open(f"/runtime.v1.{method}", message, None)
        decision = call.decide_now()
        if decision is None:
            decision = await call.decide()
        assert isinstance(decision, Forward)
        name = image
        if decision.message is not None:
            name = cri_pb2.ImageStatusRequest.FromString(decision.message).image.image
        there = await self.client.image_status(name, timeout_s=5)
        call.finished(0, there is None, "")
        return name

    def names(self) -> set[str]:
        """The names in the image store, IDs aside."""
        return {name for name in self.runtime.table.records if not name.startswith("sha256:")}

    def asked_runtime(self) -> list[str]:
        """The names of all pulls that the runtime was asked for, on the side or not."""
        return [
            cri_pb2.PullImageRequest.FromString(call.request).image.image
            for call in self.runtime.called("PullImage")
        ]

    def at_hub(self, image: str) -> str:
        """A repository and tag as the hub's name."""
        return f"{self.hub.host}/{image}"


def config_of(hub: ScriptedRegistry, mirror: ScriptedRegistry, text: str = "") -> Config:
    """The hub first, the mirror behind it, each with its login."""
    return parse_config(
        f"""
address: {hub.address}
auth: "hub-user:hub:pass"
registries: [{{address: "{mirror.address}", auth: "mirror-user:mirror-pass"}}]
{text}
""",
        "node.yaml",
    )


@asynccontextmanager
async def node(
    directory: Path,
    text: str = "",
    *,
    image_store: bool = True,
    hub: ScriptedRegistry | None = None,
) -> AsyncIterator[Node]:
    """A running node; `text` is added to the shim's config."""
    async with AsyncExitStack() as stack:
        hub = hub or ScriptedRegistry(users=HUB_LOGIN, auth="basic")
        mirror = ScriptedRegistry(users=MIRROR_LOGIN, auth="basic")
        origin = ScriptedRegistry(users=ORIGIN_LOGIN, auth="basic")
        for registry in (hub, mirror, origin):
            await stack.enter_async_context(registry)
        puller = RegistryPuller({"registry-1.docker.io": origin.address, "quay.io": origin.address})
        runtime = ScriptedRuntime(
            str(directory / "runtime.sock"), image_store=image_store, puller=puller
        )
        await stack.enter_async_context(runtime)
        client = await stack.enter_async_context(RuntimeClient(runtime.socket_path))
        made = Node(hub, mirror, origin, runtime, client, config_of(hub, mirror, text))
        try:
            yield made
        finally:
            await made.naming.drain()
            await made.registries.aclose()
