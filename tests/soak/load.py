"""Load that knows each of its answers: every call has an id of its own."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
import grpc.aio

from shimcore.pb import cri_pb2
from tests.soak.registry import IMAGES as STOCK
from tests.soak.registry import fill, repository
from tests.soak.runtime import ID_BYTES
from tests.support.registry_images import ImageShelf

ONCE = "/x.Soak/Once"
STREAM = "/x.Soak/Stream"
CHAT = "/x.Soak/Chat"
IMAGES = "/runtime.v1.ImageService/"
VERSION = "/runtime.v1.RuntimeService/Version"
# Calls of which the stand-in runtime keeps a journal, and those that containerd has. It does not
# take a pull and a removal of the same image at the same time, so each worker renews its own.
STAND_IN = ("once", "stream", "chat", "status", "pull", "remove")
CONTAINERD = ("version", "listing", "status", "pull", "renew")
# No fault lasts half as long: a call without an answer by then is a lost one.
ANSWER_S = 30.0
STREAM_MESSAGES = 50
CHAT_MESSAGES = 5
LARGE_BYTES = 300_000
SHOWN = 30  # violations; one cause has many
OPTIONS = (
    ("grpc.default_authority", "localhost"),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.enable_retries", 0),
)
_AWAY = {"UNAVAILABLE", "CANCELLED", "UNKNOWN"}
# What a call may end with while something is broken on purpose.
FORGIVEN = {
    "once": _AWAY,
    "stream": _AWAY,
    "chat": _AWAY,
    "status": _AWAY,
    "pull": _AWAY | {"NOT_FOUND"},
    "renew": _AWAY | {"NOT_FOUND"},
    "version": _AWAY,
    "listing": _AWAY,
    "remove": _AWAY,
}


# What the client library says itself when it writes to a call that has just ended.
LOCAL = "Internal error from Core"


class WrongAnswerError(Exception):
    """An answer that is not the call's own."""


def channel(socket: str) -> grpc.aio.Channel:
    """A connection of its own."""
    return grpc.aio.insecure_channel(f"unix:{socket}", options=OPTIONS)


class Ledger:
    """What became of all calls."""

    def __init__(self) -> None:
        self.answered: Counter[str] = Counter()
        self.failed: Counter[tuple[str, str]] = Counter()
        self.violations: list[str] = []
        self.once: set[bytes] = set()  # ids whose answer came
        self.fault = ""  # what is broken now
        self.epoch = 0  # changes whenever that does

    def violation(self, text: str) -> None:
        """Something that must never be."""
        self.violations.append(f"{self.fault or 'no fault'}: {text}")
        if len(self.violations) <= SHOWN:
            print(f"VIOLATION {self.violations[-1]}", flush=True)

    def enter(self, fault: str) -> None:
        """From here on calls may fail, or, with "", must not."""
        self.fault = fault
        self.epoch += 1


class Load:
    """Workers on `connections` connections, from `start` to `stop`."""

    def __init__(
        self,
        socket: str,
        ledger: Ledger,
        seed: int,
        kinds: Sequence[str] = STAND_IN,
        connections: int = 3,
    ) -> None:
        self._kinds = kinds
        self._ledger = ledger
        self._chance = random.Random(seed)
        self._channels = [channel(socket) for _ in range(connections)]
        self._ids = fill(ImageShelf())
        self._serial = itertools.count()
        self._nonce = os.urandom(6).hex()[: ID_BYTES - 8]
        self._tasks: list[asyncio.Task[None]] = []
        self.succeeded: list[int] = []  # for each worker, the epoch of its last success

    def start(self) -> None:
        for number, (kind, used) in enumerate(itertools.product(self._kinds, self._channels)):
            self.succeeded.append(0)
            worker = self._work(number, kind, getattr(self, kind), used)
            self._tasks.append(asyncio.get_running_loop().create_task(worker))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for one in self._channels:
            await one.close()

    async def all_succeed(self, timeout_s: float) -> bool:
        """Whether each worker has an answer to a call made from now on."""
        epoch = self._ledger.epoch
        deadline = asyncio.get_running_loop().time() + timeout_s
        while min(self.succeeded) < epoch:
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(0.05)
        return True

    async def _work(
        self,
        number: int,
        kind: str,
        call: Callable[[grpc.aio.Channel], Awaitable[None]],
        used: grpc.aio.Channel,
    ) -> None:
        ledger = self._ledger
        while True:
            epoch, fault = ledger.epoch, ledger.fault
            try:
                await call(used)
            except grpc.aio.AioRpcError as error:
                name = error.code().name
                ledger.failed[kind, name] += 1
                if name not in FORGIVEN[kind] and error.details() != LOCAL:
                    ledger.violation(f"{kind}: {name}: {error.details()}")
                elif not fault and epoch == ledger.epoch:
                    ledger.violation(f"{kind} failed with {name}: {error.details()}")
                await asyncio.sleep(0.05)
            except WrongAnswerError as error:
                ledger.violation(f"{kind}: {error}")
            else:
                ledger.answered[kind] += 1
                self.succeeded[number] = epoch
            await asyncio.sleep(0.005 + 0.02 * self._chance.random())

    def _id(self) -> bytes:
        return f"{self._nonce}{next(self._serial):08x}".encode()

    async def once(self, used: grpc.aio.Channel) -> None:
        """Answered with itself, and carried out once (the runtime's journal says)."""
        name = self._id()
        size = LARGE_BYTES if self._chance.random() < 0.02 else self._chance.randrange(2000)
        answer = await unary(used, ONCE, name + bytes(size))
        if answer != name + bytes(size):
            raise WrongAnswerError(f"{answer[:40]!r} to {name!r}")
        self._ledger.once.add(name)

    async def stream(self, used: grpc.aio.Channel) -> None:
        """Every message once, in order."""
        name = self._id()
        method: Any = used.unary_stream(STREAM)
        metadata = (("count", str(STREAM_MESSAGES)),)
        count = 0
        async for got in method(name, metadata=metadata, timeout=ANSWER_S):
            if got != b"%d:%s" % (count, name):
                raise WrongAnswerError(f"{got[:40]!r} as message {count} of {name!r}")
            count += 1
        if count != STREAM_MESSAGES:
            raise WrongAnswerError(f"{count} messages and status OK")

    async def chat(self, used: grpc.aio.Channel) -> None:
        """Every message comes back before the next goes."""
        method: Any = used.stream_stream(CHAT)
        call = method(timeout=ANSWER_S)
        for number in range(CHAT_MESSAGES):
            sent = self._id() + b":%d" % number
            await call.write(sent)
            got = await call.read()
            if got is grpc.aio.EOF:
                await call.code()
                raise grpc.aio.AioRpcError(
                    await call.code(),
                    await call.initial_metadata(),
                    await call.trailing_metadata(),
                    details=await call.details(),
                )
            if got != sent:
                raise WrongAnswerError(f"{got[:40]!r} to {sent!r}")
        await call.done_writing()
        if await call.read() is not grpc.aio.EOF:
            raise WrongAnswerError("a message that nobody sent")

    def _image(self) -> int:
        """Any but those that are renewed."""
        return self._chance.randrange(STOCK - len(self._channels))

    async def pull(self, used: grpc.aio.Channel) -> None:
        """The ID of the image that was asked for."""
        await self._pull(used, self._image())

    async def _pull(self, used: grpc.aio.Channel, number: int) -> None:
        image = cri_pb2.ImageSpec(image=name_of(number))
        request = cri_pb2.PullImageRequest(image=image).SerializeToString()
        answer = await unary(used, IMAGES + "PullImage", request)
        got = cri_pb2.PullImageResponse.FromString(answer).image_ref
        if got != self._ids[number]:
            raise WrongAnswerError(f"{got} to {image.image}, which is {self._ids[number]}")

    async def status(self, used: grpc.aio.Channel) -> None:
        """Nothing, or the image that was asked for."""
        await self._status(used, self._image())

    async def _status(self, used: grpc.aio.Channel, number: int) -> bool:
        image = cri_pb2.ImageSpec(image=name_of(number))
        request = cri_pb2.ImageStatusRequest(image=image).SerializeToString()
        answer = cri_pb2.ImageStatusResponse.FromString(
            await unary(used, IMAGES + "ImageStatus", request)
        )
        if answer.HasField("image") and answer.image.id != self._ids[number]:
            raise WrongAnswerError(f"{answer.image.id} to {name_of(number)}")
        return answer.HasField("image")

    async def remove(self, used: grpc.aio.Channel) -> None:
        """Nothing."""
        await self._remove(used, self._image())
        await asyncio.sleep(0.2)

    async def _remove(self, used: grpc.aio.Channel, number: int) -> None:
        image = cri_pb2.ImageSpec(image=name_of(number))
        request = cri_pb2.RemoveImageRequest(image=image).SerializeToString()
        if await unary(used, IMAGES + "RemoveImage", request):
            raise WrongAnswerError("an answer to a removal")

    async def renew(self, used: grpc.aio.Channel) -> None:
        """An image of this worker's own is gone once it is removed, and there once it is pulled."""
        number = STOCK - 1 - self._channels.index(used)
        await self._remove(used, number)
        if await self._status(used, number):
            raise WrongAnswerError(f"{name_of(number)} is there after its removal")
        await self._pull(used, number)
        if not await self._status(used, number):
            raise WrongAnswerError(f"{name_of(number)} is not there after a pull")

    async def version(self, used: grpc.aio.Channel) -> None:
        """containerd's own."""
        answer = cri_pb2.VersionResponse.FromString(await unary(used, VERSION, b""))
        if answer.runtime_name != "containerd":
            raise WrongAnswerError(f"a runtime called {answer.runtime_name!r}")

    async def listing(self, used: grpc.aio.Channel) -> None:
        """Images that the registry has, each once."""
        answer = await unary(used, IMAGES + "ListImages", b"")
        got = [image.id for image in cri_pb2.ListImagesResponse.FromString(answer).images]
        if len(set(got)) < len(got) or not set(got) <= set(self._ids):
            raise WrongAnswerError(f"{len(got)} images, {len(set(got) - set(self._ids))} unknown")


def name_of(number: int) -> str:
    """What people call an image."""
    return f"{repository(number)}:1"


async def unary(used: grpc.aio.Channel, path: str, request: bytes) -> bytes:
    """One answer to one request."""
    method: Any = used.unary_unary(path)
    answer: bytes = await method(request, timeout=ANSWER_S)
    return answer
