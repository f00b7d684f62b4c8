"""`serve`: from a configuration to a served socket, until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Coroutine
from dataclasses import dataclass, field

from shimcore.config import Config, Watcher
from shimcore.daemon import logs
from shimcore.daemon.generation import Generations
from shimcore.daemon.notify import notify
from shimcore.daemon.sockets import ListeningSocket
from shimcore.errors import ConfigError, RuntimeUnavailableError
from shimcore.images import METHODS
from shimcore.relay.shell import Relay
from shimcore.runtime import (
    KNOWN_SOCKETS,
    RuntimeClient,
    RuntimeVersion,
    detect_socket,
    wait_for_socket,
    wait_until_ready,
)

log = logging.getLogger("shimcore.daemon")

# How long running pulls may go on after SIGTERM.
DRAIN_S = 30.0
# How long the clients of the shim's own may take to close after that.
CLOSE_S = 2.0

_OPENED = frozenset(path.encode() for path in METHODS)


@dataclass(slots=True)
class _Signals:
    """What the signals have asked for."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    reload: asyncio.Event = field(default_factory=asyncio.Event)

    def watch(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stop.set)
        loop.add_signal_handler(signal.SIGINT, self.stop.set)
        loop.add_signal_handler(signal.SIGHUP, self.reload.set)


def serve(path: str, config: Config) -> None:
    """Serve until SIGTERM or SIGINT, `config` having been loaded from `path`.

    Raises ShimError where serving cannot begin: the runtime did not come in `timeout`,
    or the socket is another's.
    """
    logs.set_up(debug=config.debug)
    for notice in config.notices:
        log.warning("%s: %s", config.source, notice)
    try:
        import uvloop  # noqa: PLC0415 - optional, and slow to import where it is not used
    except ImportError:
        asyncio.run(_serve(path, config))
    else:
        uvloop.run(_serve(path, config))


async def _serve(path: str, config: Config) -> None:
    signals = _Signals()
    signals.watch()
    listening = ListeningSocket(config.shim_socket)
    try:
        runtime = await _until_stopped(_find_runtime(config), signals.stop)
        if runtime is not None:
            await _serve_on(listening, runtime, path, config, signals)
    finally:
        listening.close()
    notify("STOPPING=1")
    log.info("stopped")


async def _find_runtime(config: Config) -> str:
    """The runtime's socket; without `force`, only once the runtime answers there."""

    def say(why: str) -> None:
        log.warning("waiting for the container runtime: %s", why)
        notify(f"STATUS=waiting for the container runtime: {why}")

    if config.force:
        try:
            return config.runtime_socket or detect_socket()
        except RuntimeUnavailableError as error:
            log.warning("%s; assuming %s until it appears", error, KNOWN_SOCKETS[0])
            return KNOWN_SOCKETS[0]
    loop = asyncio.get_running_loop()
    deadline = loop.time() + config.timeout_s
    socket = config.runtime_socket or await wait_for_socket(config.timeout_s, say)
    version = await wait_until_ready(socket, max(deadline - loop.time(), 0.1), say)
    log.info("runtime %s", _described(socket, version))
    return socket


def _described(socket: str, version: RuntimeVersion) -> str:
    return f"{version.name} {version.version} (CRI {version.api_version}) at {socket}"


async def _serve_on(
    listening: ListeningSocket, socket: str, path: str, config: Config, signals: _Signals
) -> None:
    accepting = listening.listen()
    listening.take_access_of(socket)
    runtime = RuntimeClient(socket)
    generations = Generations(config, runtime)
    relay = Relay(lambda: socket, _OPENED.__contains__, generations.open)
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(relay.accept, sock=accepting)
    log.info(
        "serving %s for %s; hub %s%s",
        config.shim_socket,
        socket,
        config.hub.address,
        f", {len(config.registries) - 1} more registries" if len(config.registries) > 1 else "",
    )
    notify("READY=1", f"STATUS=serving {config.shim_socket}")
    reloading = loop.create_task(_reload_on_change(path, generations, signals.reload))
    try:
        await signals.stop.wait()
    finally:
        log.info("draining: running calls get up to %.0f s", DRAIN_S)
        notify("STOPPING=1")
        reloading.cancel()
        server.close()
        await relay.drain(DRAIN_S)
        await generations.close(CLOSE_S)
        await runtime.aclose()


async def _reload_on_change(path: str, generations: Generations, asked: asyncio.Event) -> None:
    """Look at the file at each interval, and at once on SIGHUP."""
    watcher = Watcher(path, generations.current.config)
    while True:
        interval = generations.current.config.reload_interval_s
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asked.wait(), interval if interval > 0 else None)
        forced = asked.is_set()
        asked.clear()
        if forced:
            notify("RELOADING=1")
        _reload(watcher, generations, forced=forced)
        if forced:
            notify("READY=1")


def _reload(watcher: Watcher, generations: Generations, *, forced: bool) -> None:
    before = generations.current.config
    try:
        config = watcher.reload() if forced else watcher.check()
    except ConfigError as error:
        for fault in error.faults:
            log.error("%s: %s; the configuration in force stays", error.source, fault)
        return
    if config is None:
        return
    for name in ("shim_socket", "runtime_socket", "admin_socket", "metrics"):
        if getattr(config, name) != getattr(before, name):
            log.warning("a changed %s takes effect at the next start", name)
    for notice in config.notices:
        log.warning("%s: %s", config.source, notice)
    logs.set_level(debug=config.debug)
    generations.replace(config)
    log.info("configuration reloaded from %s", config.source)


async def _until_stopped(work: Coroutine[None, None, str], stop: asyncio.Event) -> str | None:
    """The result of `work`, or None when the process is asked to stop first."""
    task = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if task.done():
        return task.result()
    task.cancel()
    await asyncio.wait({task})
    return None
