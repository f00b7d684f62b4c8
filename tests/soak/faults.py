"""What is done to the processes, one fault after the other."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import resource
import signal
import socket
from collections.abc import Awaitable, Callable

import yaml

from shimcore.relay import frames
from tests.soak.bed import Bed
from tests.support import raw
from tests.support.serving import START_S, wait_for

CROWD = 1000
# Memory that a thousand connections may take while they stand, and one that never reads.
CROWD_MIB = 160.0
SLOW_READER_MIB = 24.0
REWRITES = 60
BAD_CONFIGS = ("", "address: [", "- a list\n", "address: h\nunknown: 1\n", "\x00\xff", "address: {")
RAPID_RESETS = 2000
PULL = "/runtime.v1.ImageService/PullImage"


class FaultError(Exception):
    """While the fault lasted, something was not as it should be."""


class Faults:
    """Each public coroutine is one fault; it returns when what was broken is mended."""

    def __init__(self, bed: Bed, chance: random.Random) -> None:
        self._bed = bed
        self._chance = chance
        self.peaks_mib: dict[str, float] = {}

    def all(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """By name."""
        faults: dict[str, Callable[[], Awaitable[None]]] = {
            "shim killed": self.kill_shim,
            "runtime killed": self.kill_runtime,
            "registry killed": self.kill_registry,
            "runtime stalls": self.stall_runtime,
            "registry stalls": self.stall_registry,
            "shim suspended": self.suspend_shim,
            "client never reads": self.never_reads,
            "client never finishes requests": self.never_finishes,
            "1,000 connections": self.crowd,
            "half-closed sockets": self.half_closed,
            "rapid resets": self.rapid_resets,
            "garbage": self.garbage,
            "descriptors exhausted": self.no_descriptors,
            "wall clock jumps": self.clock_jumps,
            "config rewritten": self.config_rewritten,
        }
        if self._bed.containerd is not None:
            del faults["client never reads"]  # it has no stream without end
        if os.geteuid() == 0:
            faults["disk full"] = self.disk_full
        return faults

    # -- processes that die or stop --------------------------------------------------------

    async def kill_shim(self) -> None:
        self._bed.shim.kill()
        await asyncio.sleep(self._chance.random())
        await asyncio.to_thread(self._bed.start_shim)

    async def kill_runtime(self) -> None:
        self._bed.runtime.kill()
        await asyncio.sleep(2 * self._chance.random())
        self._bed.runtime.start()

    async def kill_registry(self) -> None:
        self._bed.registry_process.kill()
        await asyncio.sleep(2 * self._chance.random())
        self._bed.registry_process.start()

    async def stall_runtime(self) -> None:
        await self._stall(self._bed.runtime.signal)

    async def stall_registry(self) -> None:
        await self._stall(self._bed.registry_process.signal)

    async def suspend_shim(self) -> None:
        """For the shim its monotonic clock jumps, as after a suspended machine."""
        await self._stall(self._bed.shim.signal)

    async def _stall(self, send: Callable[[signal.Signals], None]) -> None:
        send(signal.SIGSTOP)
        try:
            await asyncio.sleep(1 + 2 * self._chance.random())
        finally:
            send(signal.SIGCONT)

    # -- clients ---------------------------------------------------------------------------

    async def never_reads(self) -> None:
        """A stream without end, and windows without end, that nobody reads."""
        before = self._bed.rss_mib()
        async with raw.connected(self._bed.shim.socket) as client:
            more = {"count": "1000000000"}
            flood = raw.call(1, "/x.Soak/Stream", bytes(16_000), more)
            await raw.send(client, raw.opening(raw.LARGEST_WINDOW) + flood)
            await self._watch("client never reads", before + SLOW_READER_MIB, 2)

    async def never_finishes(self) -> None:
        """Opened calls whose messages of 16 MiB never come to their end."""
        before = self._bed.rss_mib()
        prefix = b"\0" + (16 << 20).to_bytes(4, "big")
        sent = 0
        async with raw.connected(self._bed.shim.socket) as client:
            await raw.send(client, raw.opening())
            with contextlib.suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(2):
                    for stream in range(1, 400, 2):
                        await raw.send(client, raw.headers(stream, PULL))
                        data = frames.frame(frames.DATA, 0, stream, prefix + bytes(300))
                        await raw.send(client, data)
                        sent += 300
            await self._watch("client never finishes requests", before + 64, 1)

    async def crowd(self) -> None:
        """A thousand clients at once; each gets its own answer."""
        before = self._bed.rss_mib()

        async def one(number: int) -> None:
            probe = self._bed.probe
            own = b"client %d" % number if probe.path == raw.ECHO else probe.answer
            request = own if probe.path == raw.ECHO else probe.request
            async with raw.connected(self._bed.shim.socket, 30) as client:
                await raw.send(client, raw.opening() + raw.call(1, probe.path, request))
                got = await raw.read_until(client, own, 30)
                if own not in got:
                    raise FaultError(f"connection {number} of {CROWD}: no answer of its own")
                standing.append(number)
                while len(standing) < CROWD:
                    await asyncio.sleep(0.1)

        standing: list[int] = []
        tasks = [asyncio.ensure_future(one(number)) for number in range(CROWD)]
        try:
            async with asyncio.timeout(60):
                await asyncio.gather(*tasks)
                self._peak("1,000 connections", before + CROWD_MIB)
        except TimeoutError as error:
            raise FaultError(f"{len(standing)} of {CROWD} connections were served") from error
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def half_closed(self) -> None:
        """Clients that say that they send no more, at several points."""
        whole = raw.opening() + raw.call(1, raw.ECHO, b"half-closed")
        for cut in (0, 10, len(raw.opening()), len(whole) - 7, len(whole)):
            async with raw.connected(self._bed.shim.socket) as client:
                await raw.send(client, whole[:cut])
                if self._chance.random() < 0.5:
                    await asyncio.sleep(0.05)
                client.shutdown(socket.SHUT_WR)
                await raw.read_until(client, b"never", 20)

    async def rapid_resets(self) -> None:
        """Pulls that are given up as soon as they are asked for."""
        async with raw.connected(self._bed.shim.socket) as client:
            await raw.send(client, raw.opening())
            request = b"\n\x10\n\x0esoak/none-%d:1"
            for number in range(RAPID_RESETS):
                stream = 2 * number + 1
                pull = raw.call(stream, PULL, request % (number % 10))
                with contextlib.suppress(ConnectionError):
                    await raw.send(client, pull + frames.rst_stream(stream, frames.CANCEL))

    async def garbage(self) -> None:
        """Bytes that are no HTTP/2, or stop being it."""
        for number in range(50):
            async with raw.connected(self._bed.shim.socket) as client:
                start = raw.opening() if number % 2 else b""
                with contextlib.suppress(ConnectionError):
                    await raw.send(client, start + self._chance.randbytes(5000))

    # -- what the shim lives on ------------------------------------------------------------

    async def no_descriptors(self) -> None:
        """Ten more than it has now, and two hundred clients that want two each."""
        pid = self._bed.pid
        usual = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        few = self._bed.files() + 10
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (few, usual[1]))
        try:
            async with contextlib.AsyncExitStack() as stack:
                for _ in range(200):
                    with contextlib.suppress(OSError, TimeoutError):
                        path = self._bed.shim.socket
                        client = await stack.enter_async_context(raw.connected(path, 0.5))
                        await raw.send(client, raw.opening())
                await asyncio.sleep(1)
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)

    async def clock_jumps(self) -> None:
        """The wall clock a day ahead, a year back, to zero. Monotonic: `shim suspended`."""
        for offset_s in (86_400, -31_536_000, -1.7e9, 0):
            self._bed.clock.write_text(str(offset_s))
            await asyncio.sleep(0.5)

    async def config_rewritten(self) -> None:
        """Good ones, bad ones and none at all, with and without SIGHUP."""
        shim = self._bed.shim
        good = yaml.safe_dump(shim.keys)
        try:
            for number in range(REWRITES):
                if number % 2:
                    shim.write_text(self._chance.choice(BAD_CONFIGS))
                elif number % 8 == 0:
                    shim.file.unlink(missing_ok=True)
                else:
                    shim.write_text(good + f"probeTimeout: {1 + number % 3}s\n")
                if self._chance.random() < 0.5:
                    shim.signal(signal.SIGHUP)
                await asyncio.sleep(0.05)
        finally:
            shim.write_config()
            shim.signal(signal.SIGHUP)

    async def disk_full(self) -> None:
        """Nothing can be written: neither under stateDir nor to the log."""
        shim, bed = self._bed.shim, self._bed
        bed.mount_small()
        log = shim.log_file
        try:
            shim.kill()
            shim.log_file = log.with_name("full")
            if not shim.log_file.exists():
                shim.log_file.symlink_to("/dev/full")
            await asyncio.to_thread(bed.start_shim, wait=False)  # it can say nothing
            await asyncio.to_thread(wait_for, shim.accepts, START_S, lambda: "it does not serve")
            shim.signal(signal.SIGHUP)
            await asyncio.sleep(2)
            if not shim.accepts():
                raise FaultError("it does not serve on a full disk")
        finally:
            shim.kill()
            shim.log_file = log
            bed.unmount()
            await asyncio.to_thread(bed.start_shim)

    # -- memory ----------------------------------------------------------------------------

    async def _watch(self, fault: str, limit_mib: float, seconds: float) -> None:
        for _ in range(int(seconds * 10)):
            await asyncio.sleep(0.1)
            self._peak(fault, limit_mib)

    def _peak(self, fault: str, limit_mib: float) -> None:
        now = self._bed.rss_mib()
        self.peaks_mib[fault] = max(self.peaks_mib.get(fault, 0), now)
        if now > limit_mib:
            raise FaultError(f"{now:.0f} MiB, over {limit_mib:.0f}")
