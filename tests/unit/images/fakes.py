"""Registries and a runtime that are told what to answer, and remember what they were asked."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from shimcore.config import Config, Registry, parse_config
from shimcore.errors import RuntimeUnavailableError
from shimcore.heldcall import Answer, Decision, Forward
from shimcore.images.candidates import Candidates, candidates_of
from shimcore.images.journal import Journal
from shimcore.images.names import Names
from shimcore.images.service import ImageService
from shimcore.pb import cri_pb2
from shimcore.pb.containerd_pb2 import Descriptor
from shimcore.reference import Reference, parse_reference
from shimcore.registry.answers import ManifestAnswer, Outcome
from shimcore.registry.client import RegistryClient
from shimcore.runtime.client import RuntimeClient
from shimcore.runtime.content import ContentStore
from shimcore.runtime.errors import RuntimeCallError, StatusCode
from shimcore.runtime.store import ImageStore
from shimcore.runtime.values import Blob, ImageOnNode, ImageRecord, Ingest
from tests.support.clock import Clock
from tests.support.polling import until

PULL = "/runtime.v1.ImageService/PullImage"
STATUS = "/runtime.v1.ImageService/ImageStatus"
REMOVE = "/runtime.v1.ImageService/RemoveImage"
CREATE = "/runtime.v1.RuntimeService/CreateContainer"

DIGEST = "sha256:" + "a" * 64
OTHER_DIGEST = "sha256:" + "b" * 64
MANAGED = {"io.cri-containerd.image": "managed"}

HUB = "sealos.hub:5000"
MIRROR = "mirror.local:5000"
THREE = """
address: http://sealos.hub:5000
auth: hub:hub-secret
registries:
- {address: "http://mirror.local:5000", auth: "mirror:mirror-secret", priority: 600}
- {address: "http://last.local:5000", priority: 100}
"""


def config_of(text: str = THREE, **changes: object) -> Config:
    """The config in `text`, with some of its values replaced."""
    return replace(parse_config(text, "test.yaml"), **changes)  # type: ignore[arg-type]


def candidates(image: str, config: Config) -> Candidates:
    """Candidates of an image's text."""
    return candidates_of(parse_reference(image), config)


@dataclass
class FakeRegistries(RegistryClient):
    """Answers by host; a callable is asked for the delay before the answer.

    `asked` holds (host, name) of every question.
    """

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    delays_s: dict[str, float] = field(default_factory=dict)
    digests: dict[str, str | None] = field(default_factory=dict)
    breakers: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    default: Outcome = Outcome.ABSENT
    detail: str = ""

    async def head_manifest(self, registry: Registry, image: Reference) -> ManifestAnswer:
        question = (registry.host, str(image))
        self.asked.append(question)
        try:
            await asyncio.sleep(self.delays_s.get(registry.host, 0))
        except asyncio.CancelledError:
            self.cancelled.append(registry.host)
            raise
        outcome = self.outcomes.get(registry.host, self.default)
        digest = self.digests.get(registry.host, DIGEST) if outcome is Outcome.FOUND else None
        return ManifestAnswer(outcome, digest, self.detail, 0.001)

    def states(self) -> dict[str, str]:
        return self.breakers


class FakeRuntime(RuntimeClient):
    """A node with an image store; pulls succeed unless told otherwise."""

    def __init__(self, *, store: bool = True) -> None:
        self.store = FakeStore(self)
        self.content = FakeContent(self)
        self.has_store = store
        self.records: dict[str, ImageRecord] = {}
        self.pulls: list[cri_pb2.PullImageRequest] = []
        self.statuses: list[str] = []
        self.deleted: list[str] = []
        self.failing: dict[str, Exception] = {}
        """Host or name → what a pull of it raises."""
        self.hanging: set[str] = set()
        """Hosts whose pulls never end."""
        self.cancelled: list[str] = []
        self.down = False
        self.store_fault: Exception | None = None
        self.digest = DIGEST
        self.pull_s = 0.0
        self.pull_steps: dict[str, Callable[[cri_pb2.PullImageRequest], Awaitable[None]]] = {}
        """Host → what happens between a pull's request and its end."""
        self.metadata: list[tuple[tuple[str, str | bytes], ...]] = []
        self.hidden: dict[str, int] = {}
        """Name → for how many more looks ImageStatus does not show what the store has of it."""
        self.listed: list[Ingest] | None = None
        """What is being fetched; None: the runtime has no content store."""
        self.blobs: dict[str, Blob] = {}
        self.manifests: dict[str, bytes] = {}
        self.config: dict[str, object] = {}
        self.dumped_sandbox_image = ""
        self.labels_of_its_own: dict[str, dict[str, str]] = {}
        """Name → labels that the runtime gives, beside MANAGED, to a name that has not that one."""
        self.no_short_names = False
        """Names without a registry are refused, as CRI-O does it with several to look in."""
        self.aliases: dict[str, str] = {}
        """Texts that lead to a whole name and are not refused: aliases, beginnings of IDs."""
        self.on_update: Callable[[str], None] = lambda name: None

    def pulled(self, name: str, digest: str | None = None) -> None:
        """What a pull of `name` leaves in the store."""
        reference = parse_reference(name)
        target = reference.digest or digest or self.digest
        names = {f"{reference.name}@{target}", image_id(target)}
        if not reference.digest:
            names.add(str(reference))
        for each in names:
            there = self.records.get(each)
            self.records[each] = record(each, target, there.created_at if there else time.time())

    def names(self) -> set[str]:
        """Names on the node, IDs aside."""
        return {name for name in self.records if not name.startswith("sha256:")}

    async def image_status(self, image: str, *, timeout_s: float | None) -> ImageOnNode | None:
        self.check()
        self.statuses.append(image)
        await asyncio.sleep(0)
        self._refuse_short(image)
        reference = parse_reference(self.aliases.get(image, image))
        wanted = str(replace(reference, tag=None) if reference.digest else reference)
        found = self.records.get(wanted)
        if self.hidden.get(wanted, 0) > 0:
            self.hidden[wanted] -= 1
            found = None
        if found is None:
            return None
        digest = found.target.digest
        names = [n for n, one in self.records.items() if one.target.digest == digest]
        names = [n for n in names if not n.startswith("sha256:")]
        tags = tuple(name for name in names if "@" not in name)
        digests = tuple(name for name in names if "@" in name)
        return ImageOnNode(image_id(digest), tags, digests)

    async def settings(self, timeout_s: float | None) -> dict[str, object]:
        self.check()
        return self.config

    async def sandbox_image(self, timeout_s: float) -> str:
        return self.dumped_sandbox_image

    async def pull_image(
        self,
        request: bytes,
        *,
        timeout_s: float | None,
        metadata: tuple[tuple[str, str | bytes], ...] = (),
    ) -> bytes:
        self.check()
        self.metadata.append(metadata)
        parsed = cri_pb2.PullImageRequest.FromString(request)
        self.pulls.append(parsed)
        name = parsed.image.image
        self._refuse_short(name)
        host = parse_reference(name).domain
        try:
            await asyncio.sleep(self.pull_s)
            if host in self.pull_steps:
                await self.pull_steps[host](parsed)
            if host in self.hanging:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        fault = self.failing.get(name) or self.failing.get(host)
        if fault is not None:
            raise fault
        self.pulled(self.aliases.get(name, name))
        target = parse_reference(name).digest or self.digest
        return cri_pb2.PullImageResponse(image_ref=image_id(target)).SerializeToString()

    def _refuse_short(self, name: str) -> None:
        if name in self.aliases:
            return
        if self.no_short_names and not name.startswith(parse_reference(name).domain):
            raise failed(f"short name mode is enforcing, but image name {name} is ambiguous")

    def check(self) -> None:
        if self.down:
            raise RuntimeUnavailableError("the runtime is down")


class FakeStore(ImageStore):
    """The image store of a node."""

    def __init__(self, node: FakeRuntime) -> None:
        self._node = node
        self._learned = None

    async def supported(self) -> bool:
        self._node.check()
        self._learned = (0, self._node.has_store)
        return self._node.has_store

    async def get(self, name: str) -> ImageRecord | None:
        await self._called()
        return self._node.records.get(name)

    async def create(self, record: ImageRecord) -> bool:
        await self._called()
        records = self._node.records
        if record.name in records:
            return False
        records[record.name] = replace(self._labelled(record), created_at=time.time())
        return True

    async def update(self, record: ImageRecord) -> None:
        await self._called()
        records = self._node.records
        if record.name not in records:
            raise RuntimeCallError(StatusCode.NOT_FOUND, record.name)
        created_at = records[record.name].created_at
        records[record.name] = replace(self._labelled(record), created_at=created_at)
        self._node.on_update(record.name)

    async def delete(self, name: str) -> bool:
        await self._called()
        self._node.deleted.append(name)
        return self._node.records.pop(name, None) is not None

    def _labelled(self, record: ImageRecord) -> ImageRecord:
        """As containerd 1.7 does it, which passes over what is managed."""
        if MANAGED.items() <= record.labels.items():
            return record
        own = self._node.labels_of_its_own.get(record.name, {})
        return replace(record, labels={**record.labels, **MANAGED, **own})

    async def _called(self) -> None:
        self._node.check()
        await asyncio.sleep(0)
        if self._node.store_fault is not None:
            raise self._node.store_fault
        if not self._node.has_store:
            raise RuntimeCallError(StatusCode.UNIMPLEMENTED, "unknown service")


class FakeContent(ContentStore):
    """The content store of a node."""

    def __init__(self, node: FakeRuntime) -> None:
        self._node = node

    async def ingests(self) -> list[Ingest]:
        self._node.check()
        if self._node.listed is None:
            raise RuntimeCallError(StatusCode.UNIMPLEMENTED, "unknown service")
        return self._node.listed

    async def blob(self, digest: str) -> Blob | None:
        return self._node.blobs.get(digest)

    async def manifest(self, digest: str) -> bytes | None:
        return self._node.manifests.get(digest)


def image_id(digest: str) -> str:
    """An image ID that belongs to a manifest's digest."""
    return "sha256:" + hashlib.sha256(digest.encode()).hexdigest()


def record(name: str, digest: str, created_at: float = 1.0) -> ImageRecord:
    """A record as a pull makes it."""
    target = Descriptor(media_type="application/vnd.oci.image.index.v1+json", digest=digest, size=7)
    return ImageRecord(name, MANAGED, target, created_at)


@dataclass
class Bench:
    """A service on fakes, asked as the relay asks it."""

    config: Config = field(default_factory=config_of)
    registries: FakeRegistries = field(default_factory=FakeRegistries)
    runtime: FakeRuntime = field(default_factory=FakeRuntime)
    clock: Clock = field(default_factory=Clock)
    journal: str | None = None

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """A new service, as after a restart of the shim."""
        names = Names(self.runtime, Journal(self.journal))
        self.service = ImageService(self.config, self.registries, self.runtime, names, self.clock)
        self.names = names

    async def hanging_pull(self) -> asyncio.Task[Decision]:
        """A pull of nginx that does not end, and stands in the journal, written beside it."""
        self.runtime.hanging.add(HUB)
        task = asyncio.create_task(self.decide(PULL, pull_request("nginx")))
        assert self.journal is not None
        journal = Path(self.journal)
        await until(
            lambda: self.runtime.pulls and journal.exists() and journal.read_text(),
            "no pull has begun that stands in the journal",
        )
        return task

    async def recover(self) -> None:
        """End what an earlier service has left."""
        assert self.journal is not None
        left = await self.names._journal.load(self.journal)
        await self.names.end_left(left, self.config.names)

    async def decide(self, method: str, message: bytes, timeout_s: float | None = None) -> Decision:
        """The decision of one call that is not followed any further."""
        call = self.service.open(method, message, timeout_s)
        decision = call.decide_now()
        return await call.decide() if decision is None else decision

    async def pull(self, image: str, **auth: str) -> Decision:
        """One whole pull: decided, sent on, answered, names given."""
        message = pull_request(image, **auth)
        call = self.service.open(PULL, message, None)
        decision = call.decide_now()
        if decision is None:
            decision = await call.decide()
        if isinstance(decision, Forward):
            call.finished(*await self._sent_on(decision.message or message))
        await self.names.drain()
        return decision

    async def _sent_on(self, message: bytes) -> tuple[int, bool, str]:
        try:
            await self.runtime.pull_image(message, timeout_s=None)
        except RuntimeCallError as error:
            return error.code, True, error.details
        except RuntimeUnavailableError as error:
            return StatusCode.UNAVAILABLE, True, str(error)
        return StatusCode.OK, False, ""

    async def status(self, image: str) -> str:
        """The name under which ImageStatus goes on."""
        message = status_request(image)
        call = self.service.open(STATUS, message, None)
        decision = call.decide_now()
        if decision is None:
            decision = await call.decide()
        assert isinstance(decision, Forward)
        sent = cri_pb2.ImageStatusRequest.FromString(decision.message or message).image.image
        there = await self.runtime.image_status(sent, timeout_s=None)
        call.finished(0, there is None, "")
        return sent


def pull_request(image: str, **auth: str) -> bytes:
    """A serialized PullImageRequest; `auth` are AuthConfig's fields."""
    request = cri_pb2.PullImageRequest(image=cri_pb2.ImageSpec(image=image))
    if auth:
        request.auth.CopyFrom(cri_pb2.AuthConfig(**auth))
    return request.SerializeToString()


def status_request(image: str) -> bytes:
    """A serialized ImageStatusRequest."""
    return cri_pb2.ImageStatusRequest(image=cri_pb2.ImageSpec(image=image)).SerializeToString()


def remove_request(image: str) -> bytes:
    """A serialized RemoveImageRequest."""
    return cri_pb2.RemoveImageRequest(image=cri_pb2.ImageSpec(image=image)).SerializeToString()


def create_request(image: str, user_specified: str = "") -> bytes:
    """A serialized CreateContainerRequest."""
    spec = cri_pb2.ImageSpec(image=image, user_specified_image=user_specified)
    return cri_pb2.CreateContainerRequest(
        pod_sandbox_id="p", config=cri_pb2.ContainerConfig(image=spec)
    ).SerializeToString()


def pulled_as(bench: Bench) -> list[str]:
    """The names that the runtime was asked to pull, in order."""
    return [pull.image.image for pull in bench.runtime.pulls]


def answered(decision: Decision) -> str:
    """The image reference that the caller is answered."""
    assert isinstance(decision, Answer), decision
    return cri_pb2.PullImageResponse.FromString(decision.message).image_ref


def sent(decision: Decision) -> cri_pb2.PullImageRequest:
    """The rewritten pull of a decision."""
    assert isinstance(decision, Forward)
    assert decision.message is not None
    return cri_pb2.PullImageRequest.FromString(decision.message)


def failed(text: str, code: int = StatusCode.UNKNOWN) -> RuntimeCallError:
    """A pull's failure as a runtime tells it."""
    return RuntimeCallError(code, text)


def many(count: int) -> str:
    """A configuration with a hub and `count` mirrors."""
    mirrors = "".join(f'- {{address: "http://m{i}.local:5000"}}\n' for i in range(count))
    return f"address: http://sealos.hub:5000\nregistries:\n{mirrors}"
