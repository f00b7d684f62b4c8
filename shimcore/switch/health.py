"""Whether a node is well after a switch: what it was before is no fault of the switch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from shimcore.client import admin
from shimcore.client.admin import Vitals
from shimcore.doctor import run
from shimcore.errors import AdminError, RuntimeUnavailableError
from shimcore.runtime.channel import Channel
from shimcore.runtime.errors import RuntimeCallError
from shimcore.switch.exchange import CONFIG
from shimcore.systemd.kubelet import UNIT as KUBELET
from shimcore.systemd.kubelet_way import Way, kubelet_way
from shimcore.systemd.root import Root
from shimcore.systemd.systemctl import ServiceControl

STEADY_S = 4.0
"""For so long the same process has to be well, and kubelet's calls to come."""
LOOK_S = 0.5
DOCTOR_S = 8.0
# A registry or an API server that is down is reported by the shim itself, and decides nothing.
_CHECKS = tuple(
    check
    for check in run.ALL
    if check.name in {"configuration", "service", "runtime", "runtime's way", "kubelet"}
)
_BEFORE_KUBELET = tuple(check for check in _CHECKS if check.name != "kubelet")
# What kubelet asks all the time, and nobody here does.
_KUBELETS = ("/ListPodSandbox", "/Status")
ASK_S = 3.0
LOOKS = 3
"""A container that starts between two questions makes two answers differ."""
# Asked by nobody else all the time, so that kubelet's calls can be told from these.
_COMPARED = (
    "/runtime.v1.RuntimeService/Version",
    "/runtime.v1.RuntimeService/ListContainers",
    "/runtime.v1.ImageService/ListImages",
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to serve; `failing`: the checks that failed before the switch."""

    version: str
    failing: Collection[str]


def failing_names() -> set[str]:
    """The names of the checks that fail now, registries and the API server left out."""
    found = asyncio.run(run.failing(CONFIG, _CHECKS, bound_s=DOCTOR_S))
    return {finding.check for finding in found}


def why_not_before_kubelet(wanted: Wanted) -> str:
    """Why kubelet may not be pointed here; "" where it may."""
    return asyncio.run(_new_failures(wanted, _BEFORE_KUBELET))


def why_not_well(wanted: Wanted, control: ServiceControl, deadline: float) -> str:
    """ "" as soon as all is well and has been for some seconds; at the deadline, why it is not.

    `deadline` is a time of `time.monotonic`.
    """
    why = "nothing has been looked at in time"
    steady: tuple[float, Vitals] | None = None
    while time.monotonic() < deadline:
        now = _vitals(wanted)
        if isinstance(now, str):
            why, steady = now, None
        elif steady is None or steady[1].started_at != now.started_at:
            why, steady = "it has not served for long enough", (time.monotonic(), now)
        elif time.monotonic() - steady[0] >= STEADY_S:
            why = _kubelets_calls(control, steady[1], now)
            why = why or asyncio.run(_new_failures(wanted, _CHECKS))
            if not why:
                return ""
        time.sleep(LOOK_S)
    return why


def _vitals(wanted: Wanted) -> Vitals | str:
    """Those of the wanted version, answering as the runtime does; else what is wrong."""
    endpoint = admin.endpoint_of(CONFIG)
    try:
        found = admin.vitals(endpoint)
    except AdminError as error:
        return str(error)
    if found is None:
        return "the shim does not serve"
    if found.version != wanted.version:
        return f"version {found.version} serves, not {wanted.version}"
    if not found.runtime_ready:
        return "the shim finds its runtime not ready"
    if not found.config_valid:
        return f"the shim cannot use {CONFIG}"
    return asyncio.run(_answers_differing(endpoint.shim_socket, found.runtime_socket)) or found


def _kubelets_calls(control: ServiceControl, then: Vitals, now: Vitals) -> str:
    """Why kubelet is not well with the shim, as far as it is to use it."""
    way = kubelet_way(Root(), admin.endpoint_of(CONFIG).shim_socket)
    # One inside another program has no unit of its own.
    if way.way is not Way.WIRED or not control.is_active(KUBELET):
        return ""
    if _count(now) <= _count(then):
        return f"{KUBELET} does not ask the shim; see journalctl -u kubelet"
    return ""


def _count(vitals: Vitals) -> int:
    return sum(count for path, count in vitals.calls.items() if path.endswith(_KUBELETS))


async def _new_failures(wanted: Wanted, checks: Sequence[run.Check]) -> str:
    found = await run.failing(CONFIG, checks, bound_s=DOCTOR_S)
    new = [finding for finding in found if finding.check not in wanted.failing]
    return "; ".join(f"{finding.check}: {finding.detail}" for finding in new)


async def _answers_differing(shim_socket: str, runtime_socket: str) -> str:
    """What the shim says otherwise than the runtime; "" where nothing is."""
    shim, runtime = Channel(shim_socket), Channel(runtime_socket)
    try:
        for method in _COMPARED:
            if why := await _differing(shim, runtime, method):
                return f"{method.rpartition('/')[2]} through the shim: {why}"
    finally:
        await asyncio.gather(shim.aclose(), runtime.aclose())
    return ""


async def _differing(shim: Channel, runtime: Channel, method: str) -> str:
    why = ""
    for _ in range(LOOKS):
        theirs = await _answer(runtime, method)
        ours = await _answer(shim, method)
        if isinstance(theirs, str):
            return ""  # the runtime's fault, which is seen elsewhere
        if isinstance(ours, str):
            why = ours
        # Go writes maps in any order: the bytes are the same, their order is not.
        elif sorted(ours) == sorted(theirs):
            return ""
        else:
            why = f"{len(ours)} bytes that are not the runtime's {len(theirs)}"
        await asyncio.sleep(0.2)
    return why


async def _answer(channel: Channel, method: str) -> bytes | str:
    try:
        return await channel.call(method, b"", timeout_s=ASK_S)
    except (RuntimeUnavailableError, RuntimeCallError) as error:
        return str(error)
