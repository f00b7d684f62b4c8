"""The checks in their order, at the same time, each within its bound; a crash is a FAIL."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from shimcore.doctor import (
    cluster,
    configuration,
    kubelet,
    pause,
    pulling,
    registries,
    runtime,
    runtime_way,
    service,
)
from shimcore.doctor.finding import Finding, Result, failed
from shimcore.doctor.node import Node, node_of
from shimcore.doctor.runtime import AS_ROOT

BOUND_S = 20.0
"""Of a check; the longest questions in one have bounds of some seconds each."""


@dataclass(frozen=True, slots=True)
class Check:
    """A group of findings that are made together."""

    name: str
    look: Callable[[Node], Awaitable[list[Finding]]]


ALL: tuple[Check, ...] = (
    Check("configuration", configuration.look),
    Check("service", service.look),
    Check("runtime", runtime.look),
    Check("registries", registries.look),
    Check("runtime's way", runtime_way.look),
    Check("pause image", pause.look),
    Check("kubelet", kubelet.look),
    Check("cluster", cluster.look),
)

BEFORE_KUBELET: tuple[Check, ...] = tuple(check for check in ALL if check.name != "kubelet")
"""What has to be well before kubelet is pointed at the shim."""


async def examine(
    node: Node, *, pull: str = "", checks: Sequence[Check] = ALL, bound_s: float = BOUND_S
) -> list[Finding]:
    """Every finding, in the order of `checks`; with `pull`, then a pull of that image."""
    groups = await asyncio.gather(*(_bounded(check, node, bound_s) for check in checks))
    found = [finding for group in groups for finding in group]
    if pull:
        check = Check(f"pull {pull}", partial(pulling.look, image=pull))
        found += await _bounded(check, node, pulling.BOUND_S)
    return found


async def failing(file: str, checks: Sequence[Check], *, bound_s: float = BOUND_S) -> list[Finding]:
    """What fails on this machine now."""
    found = await examine(await node_of(file), checks=checks, bound_s=bound_s)
    return [finding for finding in found if finding.result is Result.FAIL]


async def _bounded(check: Check, node: Node, bound_s: float) -> list[Finding]:
    try:
        async with asyncio.timeout(bound_s):
            return await check.look(node)
    except TimeoutError:
        return [failed(check.name, f"no end within {bound_s:g} s", "look at it by hand")]
    except PermissionError as error:
        return [failed(check.name, f"{error.filename}: permission denied", AS_ROOT)]
    except Exception as error:  # noqa: BLE001 - one that breaks does not end the others
        said = f"this check broke: {type(error).__name__}: {error}"
        return [failed(check.name, said, "please report it; look at it by hand")]
