"""The commands `fleet agent` and `fleet remove`: parts put together, and SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from shimcore import __version__
from shimcore.fleet import removal
from shimcore.fleet.agent import Agent, Settings
from shimcore.fleet.api import Api, pod_account
from shimcore.fleet.bundle import Bundle
from shimcore.fleet.host import Host, chrooted
from shimcore.fleet.queue import Queue
from shimcore.fleet.records import Records
from shimcore.fleet.report import Outlet
from shimcore.fleet.switchfiles import SwitchFiles
from shimcore.fleet.values import FleetError
from shimcore.switch.exchange import Revision

TERMINATION_LOG = Path("/dev/termination-log")


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    node: str
    revision: str
    namespace: str
    name: str
    host: Path
    bundle: Path
    node_file: Path
    run_dir: Path


async def run_agent(options: Options) -> None:
    """Run until SIGTERM or SIGINT. Raises FleetError where the pod is not as it has to be."""
    _log()
    if not (options.host / "etc").is_dir():
        raise FleetError(f"{options.host}: the node's root is not mounted there")
    options.run_dir.mkdir(parents=True, exist_ok=True)
    api = Api(pod_account())
    records = Records(api, options.namespace, options.name)
    host = Host(options.host, partial(chrooted, options.host))
    queue = Queue(records, SwitchFiles(options.host), options.node)
    bundle = Bundle(
        options.bundle, options.bundle.with_name(options.bundle.name + ".sha256"), __version__
    )
    settings = Settings(options.node, Revision(options.revision), bundle, options.node_file)
    outlet = Outlet(options.run_dir / "ready", TERMINATION_LOG)
    outlet.ready(False)
    await _until_told(Agent(settings, records, host, queue, outlet).run())
    await api.aclose()


async def run_removal(namespace: str, name: str, *, wait: bool) -> None:
    """Ask for the removal, and wait for it. Raises FleetError."""
    _log()
    api = Api(pod_account())
    records = Records(api, namespace, name)
    wanted = await removal.ask(records)
    if wait:
        await removal.wait(records, wanted)
    await api.aclose()


async def _until_told(work: Coroutine[None, None, None]) -> None:
    """Run it until a signal comes. Nothing is given back then: see `agent`."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _log() -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
