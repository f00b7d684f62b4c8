"""What one configuration brings to life, and how it makes way for the next."""

from __future__ import annotations

import asyncio
import logging
from typing import NamedTuple

from shimcore.config import Config, Fallback
from shimcore.heldcall import Decision, HeldCall
from shimcore.images.call import METHODS, Method, method_of
from shimcore.images.history import History
from shimcore.images.journals import Journals
from shimcore.images.names import Names
from shimcore.images.service import ImageService
from shimcore.images.transaction import PullState
from shimcore.registry.client import RegistryClient
from shimcore.relay.events import Metadata
from shimcore.relay.route import Route
from shimcore.runtime.client import RuntimeClient
from shimcore.runtime.docker import DockerEngine
from shimcore.runtime.metadata import passed_along

log = logging.getLogger("shimcore.daemon")

# Paths as they come: each as a text, and whether it is a pull's.
_METHODS = {path.encode(): (path, method_of(path) is Method.PULL) for path in METHODS}


class Generation:
    """The registries' client and the image service of one configuration.

    It ends (`retire`) when the last decision that began in it has been made.
    """

    def __init__(
        self, config: Config, runtime: RuntimeClient, names: Names, history: History
    ) -> None:
        self.config = config
        self.registries = RegistryClient(config.registries, probe_timeout_s=config.probe_timeout_s)
        self.images = ImageService(config, self.registries, runtime, names, history=history)
        self.deciding = 0
        self.retired = False
        self._idle = asyncio.Event()

    def leave(self) -> None:
        """A decision has been made."""
        self.deciding -= 1
        if self.retired and not self.deciding:
            self._idle.set()

    async def retire(self) -> None:
        """Let its decisions end, then close its connections."""
        self.retired = True
        if self.deciding:
            await self._idle.wait()
        await self.registries.aclose()


class Generations:
    """The generation in force, and those that are ending."""

    def __init__(self, config: Config, runtime: RuntimeClient) -> None:
        self._runtime = runtime
        self._ending: set[asyncio.Task[None]] = set()
        self._retiring: set[Generation] = set()
        self.journals = Journals(config.state_dir)
        self.names = Names(runtime, self.journals.own, DockerEngine(runtime).tag)
        self.history = History()
        self.current = Generation(config, runtime, self.names, self.history)

    def replace(self, config: Config) -> None:
        """Put a new configuration in force; calls already begun end under the old one."""
        old = self.current
        self.current = Generation(config, self._runtime, self.names, self.history)
        task = asyncio.get_running_loop().create_task(old.retire())
        self._ending.add(task)
        self._retiring.add(old)
        task.add_done_callback(lambda _: self._retiring.discard(old))
        task.add_done_callback(self._ended)

    def pulls(self) -> list[PullState]:
        """The pulls that are under way, those of older configurations first."""
        return [pull for one in (*self._retiring, self.current) for pull in one.images.pulls()]

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("closing an old configuration's clients failed", exc_info=task.exception())

    def open(
        self, path: bytes, message: bytes, timeout_s: float | None, metadata: Metadata
    ) -> tuple[HeldCall, Decision | None]:
        """A held call, and the decision on it where nobody has to be asked for it."""
        method, along = _METHODS[path][0], passed_along(metadata)
        call = self.current.images.open(method, message, timeout_s, along)
        decision = call.decide_now()
        if decision is None:
            return _Undecided(self, _Request(method, message, timeout_s, along), call), None
        return call, decision

    def route(self, path: bytes) -> Route:
        """What becomes of a method's calls, under the configuration in force."""
        known = _METHODS.get(path)
        if known is None:
            return Route.PASS
        method, pulls = known
        if pulls:
            return Route.STRICT if self.strict() else Route.LONG
        return Route.OPEN if self.current.images.opens(method) else Route.PASS

    def strict(self) -> bool:
        """Whether a pull that is not understood is to be refused, never passed on."""
        return self.current.config.fallback is Fallback.DENY

    async def close(self, grace_s: float) -> None:
        """End every generation, within `grace_s` seconds."""
        loop = asyncio.get_running_loop()
        self._ending.add(loop.create_task(self.current.retire()))
        self._ending.add(loop.create_task(self.names.drain()))
        _, late = await asyncio.wait(self._ending, timeout=grace_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
        await self.names.close()
        await self.journals.close()


class _Request(NamedTuple):
    """A held request: method, message, what is left of the caller's deadline, its metadata."""

    method: str
    message: bytes
    timeout_s: float | None
    metadata: tuple[tuple[str, str | bytes], ...]


class _Undecided:
    """A held call that is decided by the generation in force when its decision begins."""

    __slots__ = ("_call", "_generation", "_generations", "_request")

    def __init__(self, generations: Generations, request: _Request, call: HeldCall) -> None:
        self._generations = generations
        self._request: _Request | None = request
        self._generation = generations.current
        self._call = call

    async def decide(self) -> Decision:
        request, self._request = self._request, None  # it may be large, and the call long
        if self._generation.retired and request is not None:
            self._generation = self._generations.current
            self._call = call = self._generation.images.open(*request)
            decision = call.decide_now()
            if decision is not None:
                return decision
        generation = self._generation
        generation.deciding += 1
        try:
            return await self._call.decide()
        finally:
            generation.leave()

    def finished(self, code: int, empty: bool, message: str) -> None:
        self._call.finished(code, empty, message)
