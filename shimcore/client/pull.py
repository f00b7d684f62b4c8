"""Pulls a list of images through the shim, as kubelet would, before their pods come."""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from shimcore.client.admin import Endpoint, ask
from shimcore.errors import AdminError, ReferenceSyntaxError, RuntimeUnavailableError, ShimError
from shimcore.reference import Reference, parse_reference
from shimcore.unixsocket import connection_error

if TYPE_CHECKING:
    from shimcore.runtime.client import RuntimeClient

KNOCK_S = 5.0
LOOK_S = 0.5
"""Between two questions how far pulls are."""

ANSWER_S = 2.0
REMEMBERED_S = 1.0
"""The shim remembers a pull a moment after its answer, once the image has its names."""
VERSION_S = 30.0
"""A shim that systemd starts for this connection answers when the runtime does."""


class State(StrEnum):
    """Where an image's pull is."""

    PULLING = "pulling"
    PULLED = "pulled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Step:
    """News of one image; `reference` is what the runtime answered, `error` one line.

    While it is being pulled: the host that it comes from, bytes that are there, and in all, and
    the same of layers; "" and 0 while that is not known.
    """

    image: str
    state: State
    elapsed_s: float = 0.0
    reference: str = ""
    error: str = ""
    registry: str = ""
    bytes: int = 0
    total_bytes: int = 0
    layers: int = 0
    total_layers: int = 0

    @property
    def ended(self) -> bool:
        """Whether this was the last of the image."""
        return self.state is not State.PULLING


def listed(text: str) -> list[str]:
    """The images of a list: one a line; empty lines, and what follows a `#`, do not count."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def wanted(images: Iterable[str]) -> tuple[list[str], list[Step]]:
    """The names to pull, each image once, and a failure for each text that is no name."""
    names: dict[str, str] = {}
    failures: dict[str, Step] = {}
    for image in images:
        try:
            reference = parse_reference(image)
        except ReferenceSyntaxError as error:
            failures.setdefault(image, Step(image, State.FAILED, error=str(error)))
        else:
            names.setdefault(str(reference), _tagged(image, reference))
    return list(names.values()), list(failures.values())


def _tagged(image: str, reference: Reference) -> str:
    """The name as kubelet asks for it: as it was written, and `:latest` if it says neither."""
    says = reference.digest is not None or image.endswith(f":{reference.tag}")
    return image if says else f"{image}:{reference.tag}"


async def pull(
    endpoint: Endpoint, images: Sequence[str], jobs: int, on_step: Callable[[Step], None]
) -> list[Step]:
    """How the pull of each image ended, in their order; `jobs` of them at a time.

    `endpoint` is the shim's. No credentials are sent: the shim has its own. `on_step` is told
    when a pull begins, how far it is (as the admin socket says), and when it ends. Raises
    ShimError when no shim answers to begin with; after that an image fails alone.
    """
    from shimcore.runtime.client import RuntimeClient  # noqa: PLC0415 - loads grpc

    see = f"see {endpoint.command('status')}"
    _knock(endpoint.shim_socket, see)
    ended: dict[str, Step] = {}
    pulling: dict[str, Step] = {}
    waiting = iter(images)

    async def work() -> None:
        for image in waiting:
            began = time.time()
            pulling[image] = Step(image, State.PULLING)
            on_step(pulling[image])
            result = await _pull(client, image, see)
            last = pulling.pop(image)
            if result.state is State.PULLED and not last.registry:
                last = await _remembered(endpoint.admin_socket, last, began)
            ended[image] = replace(
                last,
                state=result.state,
                elapsed_s=result.elapsed_s,
                reference=result.reference,
                error=result.error,
            )
            on_step(ended[image])

    async with RuntimeClient(endpoint.shim_socket) as client:
        await _greet(client, see)
        follower = asyncio.create_task(_follow(endpoint.admin_socket, pulling, on_step))
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(jobs, len(images))):
                    group.create_task(work())
        finally:
            follower.cancel()
    return [ended[image] for image in images]


async def _follow(
    admin_socket: str, pulling: dict[str, Step], on_step: Callable[[Step], None]
) -> None:
    """Tells how far the pulls are, as long as the shim says so."""
    with suppress(AdminError):  # bars without numbers: the pulls themselves go on
        while True:
            await asyncio.sleep(LOOK_S)
            answer = await asyncio.to_thread(ask, admin_socket, "Pulls", ANSWER_S)
            states = {one.image: one for one in answer.pulls}
            for image, step in list(pulling.items()):
                state = states.get(str(parse_reference(image)))
                if state is not None:
                    pulling[image] = replace(
                        step,
                        registry=state.registry,
                        bytes=state.bytes,
                        total_bytes=state.total_bytes,
                        layers=state.layers,
                        total_layers=state.total_layers,
                    )
                    on_step(pulling[image])


async def _remembered(admin_socket: str, step: Step, began: float) -> Step:
    """Where a pull came from that ended before anybody looked, as the shim's history has it."""
    until = time.monotonic() + REMEMBERED_S
    with suppress(AdminError):  # it is pulled, from wherever
        while time.monotonic() < until:
            answer = await asyncio.to_thread(ask, admin_socket, "History", ANSWER_S)
            for call in reversed(answer.calls):
                ended = call.started_at.ToMilliseconds() / 1000 + call.seconds
                if call.call == "PullImage" and call.image == step.image and ended >= began:
                    size = call.bytes
                    return replace(step, registry=call.registry, bytes=size, total_bytes=size)
            await asyncio.sleep(REMEMBERED_S / 10)
    return step


async def _pull(client: RuntimeClient, image: str, see: str) -> Step:
    from shimcore.pb import cri_pb2  # noqa: PLC0415 - loads protobuf
    from shimcore.runtime.errors import RuntimeCallError  # noqa: PLC0415
    from shimcore.runtime.messages import parsed  # noqa: PLC0415

    request = cri_pb2.PullImageRequest(image=cri_pb2.ImageSpec(image=image))
    started = time.monotonic()
    reference = error = ""
    try:
        # kubelet sets no deadline either; `timeout` in the shim's configuration bounds it.
        answer = await client.pull_image(request.SerializeToString(), timeout_s=None)
        reference = parsed(cri_pb2.PullImageResponse, answer).image_ref
    except RuntimeCallError as refusal:
        error = refusal.details or str(refusal)
    except RuntimeUnavailableError:
        error = f"the shim at {client.socket} went away; {see}"
    state = State.FAILED if error else State.PULLED
    return Step(image, state, time.monotonic() - started, reference, " ".join(error.split()))


async def _greet(client: RuntimeClient, see: str) -> None:
    """Raises ShimError unless the shim, and the runtime behind it, answer."""
    from shimcore.runtime.errors import RuntimeCallError, StatusCode  # noqa: PLC0415 - as above

    try:
        await client.version(VERSION_S)
    except RuntimeUnavailableError as error:
        raise ShimError(
            f"the shim at {client.socket}, or the runtime behind it, does not answer; {see}"
        ) from error
    except RuntimeCallError as error:
        if error.code == StatusCode.DEADLINE_EXCEEDED:
            why = f"no answer within {VERSION_S:.0f} s"
        else:
            why = error.details
        raise ShimError(f"the shim at {client.socket} is not ready: {why}; {see}") from error


def _knock(path: str, see: str) -> None:
    """Raises ShimError when nobody listens at the socket, or this user may not ask."""
    error = connection_error(path, KNOCK_S)
    if isinstance(error, PermissionError):
        raise ShimError(f"{path}: permission denied; run this as root") from error
    if error is not None:
        absent = error.errno == errno.ENOENT
        why = "there is no such socket" if absent else (error.strerror or str(error)).lower()
        raise ShimError(f"the shim is not running at {path} ({why}); {see}") from error
