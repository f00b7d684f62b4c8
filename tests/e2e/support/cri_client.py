"""A gRPC client of either CRI version and of containerd's image store, on grpc C-core."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc

from . import wire
from .wire import Decoded, Fields

STORE = "containerd.services.images.v1.Images"


def same(message: bytes) -> bytes:
    """Messages stay bytes: the serializer and deserializer of every call here."""
    return message


class CallError(Exception):
    """A call that ended with a gRPC status other than OK."""

    def __init__(self, code: grpc.StatusCode, details: str, trailers: tuple[object, ...]) -> None:
        super().__init__(f"{code.name}: {details}")
        self.code = code
        self.details = details
        self.trailers = trailers


@dataclass(frozen=True, slots=True)
class ImageView:
    """What the CRI says of one image."""

    id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    uid: int | None
    username: str
    pinned: bool

    @property
    def names(self) -> set[str]:
        """All of its names."""
        return {*self.tags, *self.digests}


@dataclass(frozen=True, slots=True)
class StoreRecord:
    """One name in containerd's image store."""

    name: str
    media_type: str
    digest: str
    size: int
    labels: tuple[tuple[str, str], ...]


def channel(socket: Path) -> grpc.Channel:
    """A connection of its own to that socket (C-core would share one between channels)."""
    options = [
        ("grpc.default_authority", "localhost"),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", 16 << 20),
        ("grpc.max_send_message_length", 16 << 20),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
    ]
    return grpc.insecure_channel(f"unix://{socket}", options=options)


class CriClient:
    """Calls by name, messages by field number; `api` is `v1` or `v1alpha2`."""

    def __init__(self, socket: Path, api: str = "v1", timeout_s: float = 60) -> None:
        self.api = api
        self.timeout_s = timeout_s
        self._channel = channel(socket)

    def __enter__(self) -> CriClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def method(self, path: str) -> Callable[..., bytes]:
        """A unary call of any service, bytes to bytes; it raises CallError."""
        call = self._channel.unary_unary(path, same, same)

        def run(request: bytes, **options: Any) -> bytes:
            answer = call.future(request, **options)
            if error := answer.exception():
                trailers = tuple(answer.trailing_metadata() or ())
                raise CallError(answer.code(), str(answer.details()), trailers) from error
            return answer.result()

        return run

    def image_call(self, name: str, fields: Fields, timeout_s: float | None = None) -> Decoded:
        path = f"/runtime.{self.api}.ImageService/{name}"
        return wire.decode(
            self.method(path)(wire.encode(fields), timeout=timeout_s or self.timeout_s)
        )

    def runtime_call(self, name: str, fields: Fields) -> Decoded:
        path = f"/runtime.{self.api}.RuntimeService/{name}"
        return wire.decode(self.method(path)(wire.encode(fields), timeout=self.timeout_s))

    # --- images ---

    def pull(
        self,
        image: str,
        *,
        username: str = "",
        password: str = "",
        timeout_s: float | None = None,
    ) -> str:
        """The image reference that the runtime answers."""
        request: dict[int, wire.Value] = {1: {1: image, 18: image}}
        if username:
            request[2] = {1: username, 2: password}
        return wire.text(self.image_call("PullImage", request, timeout_s), 1)

    def image_status(self, image: str) -> ImageView | None:
        answer = wire.nested(self.image_call("ImageStatus", {1: {1: image, 18: image}}), 1)
        return None if answer is None else _view(answer)

    def remove_image(self, image: str) -> None:
        self.image_call("RemoveImage", {1: {1: image}})

    def images(self) -> list[ImageView]:
        answer = self.image_call("ListImages", {})
        return [_view(wire.decode(one)) for one in answer.get(1, []) if isinstance(one, bytes)]

    # --- pods ---

    def version(self) -> tuple[str, str]:
        """Runtime name and the API version that it says."""
        answer = self.runtime_call("Version", {1: self.api})
        return wire.text(answer, 2), wire.text(answer, 4)

    def run_pod(self, name: str, logs: Path, handler: str = "") -> str:
        request: Fields = {1: pod_fields(name, logs), 2: handler}
        return wire.text(self.runtime_call("RunPodSandbox", request), 1)

    def create_container(
        self, pod: str, name: str, image: str, command: list[str], logs: Path
    ) -> str:
        spec: Fields = {1: image, 18: image}
        config: Fields = {1: {1: name}, 2: spec, 3: command, 11: f"{name}.log", 15: {}}
        request: Fields = {1: pod, 2: config, 3: pod_fields(name, logs)}
        return wire.text(self.runtime_call("CreateContainer", request), 1)

    def start_container(self, container: str) -> None:
        self.runtime_call("StartContainer", {1: container})

    def exec_sync(self, container: str, command: list[str]) -> str:
        answer = self.runtime_call("ExecSync", {1: container, 2: command, 3: 20})
        return wire.text(answer, 1)

    def remove_pod(self, pod: str) -> None:
        self.runtime_call("StopPodSandbox", {1: pod})
        self.runtime_call("RemovePodSandbox", {1: pod})

    def remove_pods(self) -> None:
        """Stops and removes every pod that there is."""
        for pod in self.runtime_call("ListPodSandbox", {}).get(1, []):
            assert isinstance(pod, bytes)
            self.remove_pod(wire.text(wire.decode(pod), 1))

    # --- containerd's image store ---

    def store_call(self, name: str, fields: Fields) -> Decoded:
        answer = self.method(f"/{STORE}/{name}")(
            wire.encode(fields),
            timeout=self.timeout_s,
            metadata=(("containerd-namespace", "k8s.io"),),
        )
        return wire.decode(answer)

    def store(self) -> dict[str, StoreRecord]:
        """Every name that containerd itself holds, with its digest and labels."""
        answer = self.store_call("List", {})
        records = [_record(wire.decode(r)) for r in answer.get(1, []) if isinstance(r, bytes)]
        return {record.name: record for record in records}

    def store_name(self, name: str, like: StoreRecord) -> None:
        """Adds `name` for the same image, with the same labels."""
        target: Fields = {1: like.media_type, 2: like.digest, 3: like.size}
        labels: list[Fields] = [{1: key, 2: value} for key, value in like.labels]
        self.store_call("Create", {1: {1: name, 2: labels, 3: target}})

    def wait_for_image(self, image: str, timeout_s: float = 15) -> float:
        """Seconds until ImageStatus finds it."""
        started = time.monotonic()
        while self.image_status(image) is None:
            assert time.monotonic() - started < timeout_s, f"{image}: not within {timeout_s:g} s"
            time.sleep(0.01)
        return time.monotonic() - started


def pod_fields(name: str, logs: Path) -> Fields:
    """PodSandboxConfig on the node's network (NamespaceOption.network = NODE)."""
    return {
        1: {1: name, 2: f"uid-{name}", 3: "e2e"},
        3: str(logs),
        8: {2: {1: {1: 2}}},
    }


def _view(message: Decoded) -> ImageView:
    uid = wire.nested(message, 5)
    number = uid.get(1, [0])[-1] if uid is not None else None
    assert number is None or isinstance(number, int)
    return ImageView(
        wire.text(message, 1),
        tuple(wire.texts(message, 2)),
        tuple(wire.texts(message, 3)),
        number,
        wire.text(message, 6),
        message.get(8, [0])[-1] == 1,
    )


def _record(message: Decoded) -> StoreRecord:
    target = wire.nested(message, 3) or {}
    pairs = [wire.decode(p) for p in message.get(2, []) if isinstance(p, bytes)]
    labels = tuple(sorted((wire.text(p, 1), wire.text(p, 2)) for p in pairs))
    size = target.get(3, [0])[-1]
    assert isinstance(size, int)
    media_type, digest = wire.text(target, 1), wire.text(target, 2)
    return StoreRecord(wire.text(message, 1), media_type, digest, size, labels)
