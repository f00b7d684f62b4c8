"""The commands `fleet agent` and `fleet remove`: parts put together, and SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Coroutine
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


async def run_agent(
    node: str,
    revision: str,
    namespace: str,
    name: str,
    root: Path,
    bundle: Path,
    node_file: Path,
    run_dir: Path,
) -> None:
    """Run until SIGTERM or SIGINT. Raises FleetError where the pod is not as it has to be."""
    _log()
    if not (root / "etc").is_dir():
        raise FleetError(f"{root}: the node's root is not mounted there")
    run_dir.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - nothing else runs yet
    api = Api(pod_account())
    records = Records(api, namespace, name)
    queue = Queue(records, SwitchFiles(root), node)
    sums = bundle.with_name(bundle.name + ".sha256")
    settings = Settings(node, Revision(revision), Bundle(bundle, sums, __version__), node_file)
    outlet = Outlet(run_dir / "ready", TERMINATION_LOG)
    outlet.ready(False)
    host = Host(root, partial(chrooted, root))
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
