"""`serve`: from a configuration to a served socket, until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple, TypeVar

from shimcore import __version__
from shimcore.cluster.starting import Start
from shimcore.config import Config
from shimcore.config.state import StateError
from shimcore.daemon import background, cluster, handover, logs
from shimcore.daemon.activation import inherited_sockets, is_at
from shimcore.daemon.admin import AdminServer
from shimcore.daemon.descriptors import most_connections, raise_limit
from shimcore.daemon.front import Front, FrontSettings
from shimcore.daemon.handover import CannotHandOverError, NobodyServesError, Successor
from shimcore.daemon.notify import notify
from shimcore.daemon.predecessor import Predecessor, inherited_predecessor
from shimcore.daemon.shim import CLOSE_S, DRAIN_S, Shim
from shimcore.daemon.sockets import check_place
from shimcore.errors import RuntimeUnavailableError, ShimError
from shimcore.images.journals import OtherProcess, Serving
from shimcore.runtime.detection import KNOWN_SOCKETS, detect_socket
from shimcore.runtime.errors import SeveralRuntimesError
from shimcore.runtime.readiness import wait_for_socket, wait_until_ready
from shimcore.threads import finish, need_threads

log = logging.getLogger("shimcore.daemon")

RETIRED_S = 900.0
"""How long calls may go on in a process that has handed over: pulls, streams, and watches whose
clients do not go elsewhere."""
OLDER_PROCESSES = 2
"""So many may finish their calls at a time; each has the memory of a shim of its own."""
_TELL_S = 1.0

_T = TypeVar("_T")


@dataclass(slots=True)
class _Signals:
    """What has been asked for, by signals or on the admin socket."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    retire: asyncio.Event = field(default_factory=asyncio.Event)  # another process serves now
    reload: asyncio.Event = field(default_factory=asyncio.Event)

    def watch(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stop.set)
        loop.add_signal_handler(signal.SIGINT, self.stop.set)
        loop.add_signal_handler(signal.SIGHUP, self.reload.set)


def serve(path: str, start: Start) -> None:
    """Serve until SIGTERM or SIGINT with the configuration at `path`, as it was loaded.

    Raises ShimError where serving cannot begin: the runtime did not come in `timeout`,
    the socket is another's, or there are too few threads.
    """
    predecessor = inherited_predecessor()
    inherited = inherited_sockets()
    config = start.config
    lines = logs.set_up(debug=config.debug)
    settings = FrontSettings(path, config, inherited, most_connections(raise_limit()), lines)
    _say_bad_file(start)
    for fault in start.faults:
        log.warning("%s", fault)
    for notice in config.notices:
        log.warning("%s: %s", config.source, notice)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            lines.serve_in(runner.get_loop())
            runner.get_loop().set_exception_handler(logs.Faults().tell)
            runner.run(_serve(settings, start, predecessor))
    finally:
        finish(CLOSE_S)


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


async def _serve(settings: FrontSettings, start: Start, predecessor: Predecessor | None) -> None:
    signals = _Signals()
    signals.watch()
    async with contextlib.AsyncExitStack() as open_until_end:
        try:
            need_threads()
            begun = _begin(settings, start, predecessor, open_until_end)
            ready = await _until_stopped(begun, signals.stop)
            if ready is not None:
                front, runtime = ready
                shim = Shim(settings.path, start, runtime.socket)
                await _serve_on(front, shim, signals, predecessor, assumed=runtime.assumed)
        except ShimError as error:
            if predecessor is not None:
                predecessor.failed(str(error))
            raise
    log.info("stopped")


class _Runtime(NamedTuple):
    socket: str
    assumed: bool = False
    """Under `force`, where no runtime was on the node."""


async def _begin(
    settings: FrontSettings,
    start: Start,
    predecessor: Predecessor | None,
    open_until_end: contextlib.AsyncExitStack,
) -> tuple[Front, _Runtime]:
    """Claim the sockets and find the runtime, which comes first beside a process that serves."""

    async def claimed() -> Front:
        front = Front(settings)
        open_until_end.push_async_callback(front.close)
        await front.start()
        return front

    limit_s = start.own.timeout_s
    if predecessor is None:
        front = await claimed()
        return front, await _find_runtime(start.config, limit_s, front.admin)
    await predecessor.connect()
    runtime = await _find_runtime(start.config, limit_s, None)
    if not any(is_at(each, start.config.shim_socket) for each in settings.inherited):
        raise ShimError(f"shim: {start.config.shim_socket} is not what systemd listens on: restart")
    for path in (start.config.shim_socket, start.config.admin_socket):
        check_place(path)  # once the process before has left them, there may be no way back
    await predecessor.may_serve()
    return await claimed(), runtime


async def _find_runtime(config: Config, limit_s: float, admin: AdminServer | None) -> _Runtime:
    """The runtime's socket; without `force`, only once the runtime answers there.

    Waited for at most `limit_s`, the `timeout` of the node's file: the cluster's does not end
    a start.
    """

    def say(why: str) -> None:
        log.warning("waiting for the container runtime: %s", why)
        notify(f"STATUS=waiting for the container runtime: {' '.join(why.split())}")
        if admin is not None:
            admin.waiting_why = why

    if config.force:
        try:
            return _Runtime(config.runtime_socket or await detect_socket())
        except SeveralRuntimesError:  # waiting does not mend that
            raise
        except RuntimeUnavailableError as error:
            log.warning("%s; assuming %s until one appears", error, KNOWN_SOCKETS[0])
            return _Runtime(KNOWN_SOCKETS[0], assumed=True)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limit_s
    path = config.runtime_socket or await wait_for_socket(limit_s, say)
    version = await wait_until_ready(path, max(deadline - loop.time(), 0.1), say)
    found = f"{version.name} {version.version} (CRI {version.api_version}) at {path}"
    log.info("runtime %s", found)
    return _Runtime(path)


async def _serve_on(
    front: Front,
    shim: Shim,
    signals: _Signals,
    predecessor: Predecessor | None,
    *,
    assumed: bool,
) -> None:
    loop = asyncio.get_running_loop()
    turn = asyncio.Lock()

    async def hand_over(command: str) -> Successor:
        _refuse_hand_over(front, turn)
        async with turn:
            await _refuse_beside_others(shim)
            try:
                handing = handover.hand_over(
                    command, front, lambda: front.come_back(shim, hand_over)
                )
                successor = await _until_stopped(handing, signals.stop)
            except NobodyServesError as error:  # a start will
                log.error("hand-over: %s", error)
                signals.stop.set()
                raise
        if successor is None:
            raise CannotHandOverError("the service is being stopped")
        signals.retire.set()
        return successor

    await front.open(shim, hand_over)
    if predecessor is not None:
        await predecessor.serving()
    await shim.generations.journals.tell(_here(shim))
    _say_serving(shim)
    # What the start made stays: a garbage collection that looks through it, of which there is one
    # now and then, would hold up every call for 15 to 20 ms.
    gc.freeze()
    works: list[Callable[[], Coroutine[None, None, None]]] = [
        partial(background.reload_on_change, shim, signals.reload),
        partial(background.watch, shim, front),
        partial(background.keep_bypass, shim),
        partial(background.log_statistics, shim),
        partial(cluster.follow, shim),
        partial(background.end_left, shim),
        shim.keep_good,
    ]
    if assumed:
        works.append(partial(background.find_runtime, shim))
    upkeeping = [loop.create_task(background.done_again(work)) for work in works]
    try:
        await _first(signals, upkeeping)
    finally:
        for task in upkeeping:
            task.cancel()
        async with turn:  # one that is stopped in the middle of it has its sockets back
            front.stop_accepting()
        if signals.retire.is_set():
            await _finish(shim, signals.stop)
        if signals.stop.is_set() or not signals.retire.is_set():
            log.info("draining: running calls get up to %.0f s", DRAIN_S)
            notify("STOPPING=1", "STATUS=draining")
            await shim.close(DRAIN_S)
        else:
            await shim.close(0)


async def _finish(shim: Shim, stop: asyncio.Event) -> None:
    """Returns when the last call has ended, RETIRED_S has passed, or the process is to stop."""
    relay = shim.relay
    log.info("handed over: %d calls end here, within %.0f min", relay.running, RETIRED_S / 60)
    ending = asyncio.ensure_future(relay.retire(RETIRED_S))
    stopping = asyncio.ensure_future(stop.wait())
    try:
        while not (ending.done() or stopping.done()):
            does = OtherProcess(os.getpid(), __version__, relay.running)
            await shim.generations.journals.tell(does)
            await asyncio.wait(
                {ending, stopping}, timeout=_TELL_S, return_when=asyncio.FIRST_COMPLETED
            )
    finally:
        ending.cancel()
        stopping.cancel()


def _refuse_hand_over(front: Front, turn: asyncio.Lock) -> None:
    """Raises CannotHandOverError."""
    if front.socket is None or not os.environ.get("NOTIFY_SOCKET"):
        raise CannotHandOverError("systemd does not hold its socket")
    if front.others:
        raise CannotHandOverError("systemd holds another socket of it, too")
    if turn.locked():
        raise CannotHandOverError("another process is just being handed over to")


async def _refuse_beside_others(shim: Shim) -> None:
    """Raises CannotHandOverError where too many finish their calls, or the next process would not
    know that this one does."""
    journals = shim.generations.journals
    try:
        await journals.hold()
        others = await journals.others()
    except StateError as error:
        raise CannotHandOverError(
            f"the next process could not know of this one: {error}"
        ) from error
    if len(others) >= OLDER_PROCESSES:
        raise CannotHandOverError(
            f"{OLDER_PROCESSES} older processes still finish their calls (status shows them)"
        )


def _here(shim: Shim) -> Serving:
    file, config = os.path.abspath(shim.config_file), shim.config
    return Serving(file, config.shim_socket, config.admin_socket)


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


async def _first(signals: _Signals, tasks: list[asyncio.Task[None]]) -> None:
    """Until the process is asked to stop or has handed over, or a task of background fails."""
    stopping = asyncio.ensure_future(signals.stop.wait())
    retiring = asyncio.ensure_future(signals.retire.wait())
    running: set[asyncio.Future[object]] = {stopping, retiring, *tasks}  # type: ignore[arg-type]
    while not (stopping.done() or retiring.done()):
        done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()


async def _until_stopped(work: Coroutine[None, None, _T], stop: asyncio.Event) -> _T | None:
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
