"""`serve`: from a configuration to a served socket, until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from shimcore.cluster.starting import Start
from shimcore.config import Config
from shimcore.daemon import background, cluster, logs
from shimcore.daemon.accepting import Acceptor
from shimcore.daemon.activation import inherited_sockets
from shimcore.daemon.admin import AdminServer
from shimcore.daemon.descriptors import most_connections, raise_limit
from shimcore.daemon.notify import notify
from shimcore.daemon.shim import DRAIN_S, Shim
from shimcore.daemon.sockets import ListeningSocket
from shimcore.errors import RuntimeUnavailableError
from shimcore.runtime import (
    KNOWN_SOCKETS,
    RuntimeVersion,
    detect_socket,
    wait_for_socket,
    wait_until_ready,
)

if TYPE_CHECKING:
    from shimcore.daemon.metrics import MetricsServer

log = logging.getLogger("shimcore.daemon")


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


@dataclass(frozen=True, slots=True)
class _Means:
    """What the process has: its log, systemd's sockets, and how many clients it can serve."""

    lines: logs.Lines
    inherited: list[socket.socket]
    most_connections: int


def serve(path: str, start: Start) -> None:
    """Serve until SIGTERM or SIGINT with the configuration at `path`, as it was loaded.

    Raises ShimError where serving cannot begin: the runtime did not come in `timeout`,
    or the socket is another's.
    """
    inherited = inherited_sockets()
    lines = logs.set_up(debug=start.config.debug)
    means = _Means(lines, inherited, most_connections(raise_limit()))
    config = start.config
    _say_bad_file(start)
    for fault in start.faults:
        log.warning("%s", fault)
    for notice in config.notices:
        log.warning("%s: %s", config.source, notice)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        lines.serve_in(runner.get_loop())
        runner.run(_serve(path, start, means))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where it is installed, unless IMAGE_CRI_SHIM_LOOP says `asyncio`."""
    if os.environ.get("IMAGE_CRI_SHIM_LOOP") == "asyncio":
        return None
    try:
        import uvloop  # noqa: PLC0415 - optional
    except ImportError:
        return None
    return uvloop.new_event_loop


def _say_bad_file(start: Start) -> None:
    if start.file_error is None:
        return
    for fault in start.file_error.faults:
        log.error("%s: %s", start.file_error.source, fault)
    kept = datetime.fromtimestamp(start.good_at, UTC).isoformat().replace("+00:00", "Z")
    log.warning(
        "%s cannot be used: the last good configuration, kept at %s, serves until it is mended",
        start.file_error.source,
        kept,
    )


async def _serve(path: str, start: Start, means: _Means) -> None:
    config = start.config
    signals = _Signals()
    signals.watch()
    with contextlib.ExitStack() as sockets:
        listening = ListeningSocket(config.shim_socket, means.inherited)
        sockets.callback(listening.close)
        admin = ListeningSocket(config.admin_socket)
        sockets.callback(admin.close)
        admin_server = AdminServer(admin, path, config)
        await admin_server.start()
        try:
            finding = _find_runtime(config, start.own.timeout_s, admin_server)
            runtime = await _until_stopped(finding, signals.stop)
            if runtime is not None:
                shim = Shim(path, start, runtime)
                await _serve_on(listening, admin_server, shim, signals, means)
        finally:
            await admin_server.stop()
    log.info("stopped")


async def _find_runtime(config: Config, limit_s: float, admin: AdminServer) -> str:
    """The runtime's socket; without `force`, only once the runtime answers there.

    Waited for at most `limit_s`, the `timeout` of the node's file: the cluster's does not end
    a start.
    """

    def say(why: str) -> None:
        log.warning("waiting for the container runtime: %s", why)
        notify(f"STATUS=waiting for the container runtime: {' '.join(why.split())}")
        admin.waiting_why = why

    if config.force:
        try:
            return config.runtime_socket or await detect_socket()
        except RuntimeUnavailableError as error:
            log.warning("%s; assuming %s until it appears", error, KNOWN_SOCKETS[0])
            return KNOWN_SOCKETS[0]
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limit_s
    path = config.runtime_socket or await wait_for_socket(limit_s, say)
    version = await wait_until_ready(path, max(deadline - loop.time(), 0.1), say)
    log.info("runtime %s", _described(path, version))
    return path


def _described(path: str, version: RuntimeVersion) -> str:
    return f"{version.name} {version.version} (CRI {version.api_version}) at {path}"


async def _serve_on(
    listening: ListeningSocket,
    admin_server: AdminServer,
    shim: Shim,
    signals: _Signals,
    means: _Means,
) -> None:
    loop = asyncio.get_running_loop()
    metrics = _serve_metrics(shim, means.lines)
    accepting = listening.listen()
    listening.take_access_of(shim.runtime_socket)

    def room(beginning: int) -> bool:
        return len(shim.relay.connections) + beginning < means.most_connections

    acceptor = Acceptor(accepting, shim.relay.accept, room, "clients", shim.relay.clients)
    await admin_server.show(shim)
    _say_serving(shim)
    # What the start made stays: a garbage collection that looks through it, of which there is one
    # now and then, would hold up every call for 15 to 20 ms.
    gc.freeze()
    upkeeping = [
        loop.create_task(background.reload_on_change(shim, signals.reload)),
        loop.create_task(background.watch(shim, acceptor, listening.path)),
        loop.create_task(background.keep_bypass(shim)),
        loop.create_task(background.log_statistics(shim)),
        loop.create_task(cluster.follow(shim)),
        loop.create_task(shim.generations.names.recover(shim.config.names)),
        loop.create_task(shim.keep_good()),
    ]
    try:
        await _first(signals.stop, upkeeping)
    finally:
        log.info("draining: running calls get up to %.0f s", DRAIN_S)
        notify("STOPPING=1", "STATUS=draining")
        for task in upkeeping:
            task.cancel()
        admin_server.draining()
        acceptor.close()
        accepting.close()
        await shim.close()
        if metrics is not None:
            metrics.close()


def _serve_metrics(shim: Shim, lines: logs.Lines) -> MetricsServer | None:
    """Serve metrics where the configuration gives an address."""
    if shim.config.metrics is None:
        return None
    from shimcore.daemon.metrics import MetricsServer  # noqa: PLC0415 - costs memory

    server = MetricsServer(shim, shim.config.metrics, lambda: lines.dropped)
    shim.relay.observer = server.calls
    return server


def _say_serving(shim: Shim) -> None:
    config = shim.config
    others = len(config.registries) - 1
    more = f" and {others} more" if others else ""
    log.info(
        "serving %s for %s; hub %s%s",
        config.shim_socket,
        shim.runtime_socket,
        config.hub.address,
        more,
    )
    notify("READY=1", f"STATUS=serving {config.shim_socket} for {shim.runtime_socket}")


async def _first(stop: asyncio.Event, tasks: list[asyncio.Task[None]]) -> None:
    """Until the process is asked to stop. A task of background that fails ends it as well."""
    stopping = asyncio.ensure_future(stop.wait())
    running: set[asyncio.Future[object]] = {stopping, *tasks}  # type: ignore[arg-type]
    while not stopping.done():
        done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()


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
