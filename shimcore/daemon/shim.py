"""The running shim: its parts, the configuration in force, and what can be said of it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from shimcore.cluster.documents import ClusterPart
from shimcore.cluster.starting import Start
from shimcore.config import Config, Watcher
from shimcore.config.files import not_answering
from shimcore.config.last_good import keep_good
from shimcore.config.provenance import sources
from shimcore.config.state import StateError
from shimcore.daemon import logs
from shimcore.daemon.generation import Generations
from shimcore.daemon.notify import is_of_systemd
from shimcore.errors import ConfigError, RuntimeUnavailableError
from shimcore.relay.server import Relay
from shimcore.runtime.client import RuntimeClient
from shimcore.runtime.errors import RuntimeCallError
from shimcore.runtime.values import RuntimeVersion
from shimcore.threads import SILENT_S, in_thread

if TYPE_CHECKING:
    from shimcore.cluster.watch import Follower

log = logging.getLogger("shimcore.daemon")

_T = TypeVar("_T")

# How long running pulls may go on after SIGTERM.
DRAIN_S = 30.0
# How long the shim's own clients may take to close after that.
CLOSE_S = 2.0
# A runtime that takes longer to say that it is well is not.
RUNTIME_ANSWER_S = 2.0

_NEEDS_RESTART = {
    "shim_socket": "shim",
    "runtime_socket": "cri",
    "admin_socket": "admin",
    "metrics": "metrics",
}


@dataclass(frozen=True, slots=True)
class RuntimeReport:
    """What the runtime says of itself; `detail` says why it is not ready."""

    socket: str
    version: RuntimeVersion | None
    ready: bool
    detail: str


@dataclass(slots=True)
class ClusterState:
    """The cluster's part of the configuration, as far as it is known."""

    part: ClusterPart | None = None
    """What counts now."""
    kept_at: float = 0.0
    """When it was kept (seconds since 1970), while it is a kept copy; 0 once it is confirmed."""
    fault: str = ""
    """What is wrong with what the cluster says now."""
    keep_fault: str = ""
    """Why no copy could be kept when that was tried last."""
    follower: Follower | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Another part counts, of which no copy has been kept yet."""

    def take(self, part: ClusterPart) -> None:
        """What the cluster says now counts."""
        if part.documents or (self.part and self.part.documents):
            self.changed.set()
        self.part, self.kept_at, self.fault = part, 0.0, ""


class Shim:
    """Everything between the listening socket and the runtime's, for one run of `serve`."""

    def __init__(self, path: str, start: Start, runtime_socket: str) -> None:
        config, kept, bad = start.config, start.kept, start.file_error
        self.runtime_socket = runtime_socket
        self.runtime = RuntimeClient(runtime_socket)
        self.generations = Generations(config, self.runtime)
        self.relay = Relay(
            lambda: runtime_socket,
            self.generations.route,
            self.generations.open,
            self.generations.strict,
        )
        self.started_at = time.time()
        self.loaded_at = start.good_at or self.started_at
        self.generation_number = 1  # of the configuration in force
        self.config_file = path
        # What is wrong with the file as it is now.
        self.config_fault = bad.reason if bad else ""
        self._started_with = config
        self.cluster = ClusterState(kept.part, kept.kept_at) if kept else ClusterState()
        self.replaced = asyncio.Event()  # another configuration has come into force
        self.runtime_said: RuntimeReport | None = None  # the last time that it was asked
        self.bypass_due = asyncio.Event()  # what onFailure says may be another thing now
        self.bypass_due.set()
        self.bypass_fault = ""  # why the bypass does not lead where it says
        self._watcher = Watcher(path, config, self.cluster.part, start.contents)
        self._kept_good = start.contents if bad else None
        self._keeping = False
        self._keep_fault = ""  # why it could not be kept when that was tried last
        self._turn = asyncio.Lock()
        self._changes: set[asyncio.Task[bool]] = set()

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self.generations.current.config

    @property
    def socket(self) -> str:
        """Path of the socket that is served."""
        return self._started_with.shim_socket

    @property
    def unkept(self) -> list[str]:
        """What cannot be kept on disk, as the log says it."""
        journals, cluster = self.generations.journals, self.cluster
        faults = self._keep_fault, cluster.keep_fault, journals.fault, self.bypass_fault
        return list(filter(None, faults))

    async def reload(self, *, forced: bool) -> bool:
        """Look at the configuration; whether another one is in force now.

        `forced` reads the files also when nothing about them has changed. A configuration
        that cannot be used is logged and kept out.
        """
        return await self._in_turn(self._reload, forced)

    async def put_cluster(self, part: ClusterPart) -> bool:
        """Merge what the cluster says now; whether it could be used.

        What cannot be used is logged and kept out: what the cluster said before stays.
        """
        return await self._in_turn(self._put_cluster, part)

    async def keep_good(self) -> None:
        """Keep the last good configuration for a start with a bad one, if it is not kept yet."""
        if self._keeping:  # one at a time writes it, and the last one then
            return
        self._keeping = True
        try:
            while (good := self._watcher.good) and good is not self._kept_good:
                await self._keep(good)
                self._kept_good, self._keep_fault = good, ""
        except (StateError, RuntimeError) as error:  # RuntimeError: no thread can be had
            self._tell_not_kept(str(error))  # the next look tries again
        finally:
            self._keeping = False

    async def _keep(self, good: Mapping[str, bytes]) -> None:
        """Raises StateError, RuntimeError."""
        folder, takes = self.config.state_dir, is_of_systemd()  # a file that is tried takes none
        await in_thread(
            lambda: keep_good(folder, self.config_file, good, takes=takes),
            lambda: self._tell_not_kept(f"{folder}: it does not answer"),
        )

    def _tell_not_kept(self, fault: str) -> None:
        text = f"{fault}; a start with a bad file would have nothing else"
        if text != self._keep_fault:
            log.warning("%s", text)
        self._keep_fault = text

    async def _in_turn(self, change: Callable[[_T], Awaitable[bool]], value: _T) -> bool:
        """One change after the other, each to its end, also when nobody waits for it any more."""

        async def run() -> bool:
            async with self._turn:
                done = await change(value)
            keeping = asyncio.ensure_future(self.keep_good())
            with suppress(TimeoutError):  # it goes on then, and nobody waits for it
                await asyncio.wait_for(asyncio.shield(keeping), SILENT_S)
            return done

        task = asyncio.get_running_loop().create_task(run())
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        return await asyncio.shield(task)

    async def _reload(self, forced: bool) -> bool:
        look = self._watcher.reload if forced else self._watcher.check
        try:
            config = await self._look(look)
        except ConfigError as error:
            self.config_fault = error.reason
            _say_unusable(error)
            return False
        if config is None:
            return False
        self.config_fault = ""
        self._put_in_force(config)
        return True

    async def _look(self, look: Callable[[], _T]) -> _T:
        """What a look at the files gives; that one does not answer is told meanwhile."""
        fault = self.config_fault

        def silent() -> None:
            self.config_fault = not_answering(self.config_file)
            log.error("%s; the configuration in force stays", self.config_fault)

        looking = asyncio.ensure_future(in_thread(look, silent))
        await asyncio.wait({looking})
        if self.config_fault != fault:
            self.config_fault = fault
            log.info("the configuration can be looked at again")
        return looking.result()

    async def _put_cluster(self, part: ClusterPart) -> bool:
        try:
            config = await self._look(lambda: self._watcher.put(part))
        except ConfigError as error:
            self.cluster.fault = "; ".join(f"{error.source}: {fault}" for fault in error.faults)
            _say_unusable(error)
            return False
        self.cluster.take(part)
        if self._watcher.file_is_good:
            self.config_fault = ""
        if config == self.config:  # what is known has been confirmed
            self.generations.current.config = config
        else:
            self._put_in_force(config)
        return True

    def _put_in_force(self, config: Config) -> None:
        for name, key in _NEEDS_RESTART.items():
            if getattr(config, name) != getattr(self._started_with, name):
                log.warning("%s: a changed %r counts from the next start on", config.source, key)
        for notice in config.notices:
            log.warning("%s: %s", config.source, notice)
        logs.set_level(debug=config.debug)
        self.generations.replace(config)
        self.generation_number += 1
        self.loaded_at = time.time()
        self.replaced.set()
        self.bypass_due.set()
        part = self._watcher.cluster
        if isinstance(part, ClusterPart) and part is not self.cluster.part:
            self.cluster.take(part)  # refused before, and usable now
        log.info("configuration reloaded from %s", " and ".join(sources(config)))

    async def runtime_report(self) -> RuntimeReport:
        """Ask the runtime for its version and readiness, within RUNTIME_ANSWER_S."""
        version, ready = None, False
        try:
            async with asyncio.timeout(RUNTIME_ANSWER_S):
                version = await self.runtime.version(RUNTIME_ANSWER_S)
                ready, why = await self.runtime.ready(RUNTIME_ANSWER_S)
        except (RuntimeUnavailableError, RuntimeCallError) as error:
            why = str(error)
        except TimeoutError:
            why = f"no answer within {RUNTIME_ANSWER_S:g} s"
        report = RuntimeReport(self.runtime_socket, version, ready, "" if ready else why)
        self.runtime_said = report
        return report

    async def close(self, grace_s: float) -> None:
        """Let running calls end, for `grace_s` seconds at most, then close every connection."""
        await self.relay.drain(grace_s)
        await self.generations.close(CLOSE_S)
        await self.runtime.aclose()


def _say_unusable(error: ConfigError) -> None:
    for fault in error.faults:
        log.error("%s: %s; the configuration in force stays", error.source, fault)
