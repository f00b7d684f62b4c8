"""Each registry: reached, TLS, login; and what the shim itself has come to know of it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

from shimcore.client import admin
from shimcore.config import Config, Registry
from shimcore.doctor import proxies
from shimcore.doctor.finding import Finding, failed, passed, warned
from shimcore.doctor.node import Node
from shimcore.doctor.registry_mends import mend_of
from shimcore.errors import AdminError
from shimcore.registry.answers import PingReport
from shimcore.registry.client import RegistryClient
from shimcore.runtime.peer import peer_of
from shimcore.systemd.units import SERVICE

SOON_DAYS = 30
"""A certificate that ends sooner is warned about."""

LONGEST_S = 10.0
"""Of `probeTimeout`, as far as this look goes, and of the wait for the shim's next trial."""

_TRIAL_S = 0.1


async def look(node: Node) -> list[Finding]:
    """All of them, at once."""
    config = node.config
    if config is None:
        return []
    told = {one["address"]: one for one in node.facts.get("registries", ())}
    timeout_s = min(config.probe_timeout_s, LONGEST_S)
    async with aclosing(RegistryClient(config.registries, probe_timeout_s=timeout_s)) as client:
        reports = await asyncio.gather(*(client.ping(one) for one in config.registries))
    pairs = zip(config.registries, reports, strict=True)
    return await asyncio.gather(
        *(_finding(node, config, one, report, told.get(one.address)) for one, report in pairs)
    )


async def _finding(
    node: Node, config: Config, registry: Registry, report: PingReport, told: dict[str, Any] | None
) -> Finding:
    check = f"registry {registry.address}"
    if not report.ok:
        path = "address" if registry.is_hub else f"{registry.key}.address"
        source = config.origins.get(path, config.source)
        return failed(check, report.detail, await mend_of(node, source, registry, report))
    if told is not None and not told["usable"]:
        told = await _told_again(node, told)
    if told is not None and not told["usable"]:
        why = f"answers here, but to the shim it is {told['state']}: {told['reason']}"
        return failed(check, why, _service_mend(node, registry))
    if report.tls is not None and report.tls.days_left < SOON_DAYS:
        return warned(check, f"its certificate ends in {report.tls.days_left} days", "renew it")
    login = {"accepted": "login accepted", "not needed": "no login needed"}
    return passed(check, f"answers, {login.get(report.login, f'login {report.login}')}")


async def _told_again(node: Node, told: dict[str, Any]) -> dict[str, Any]:
    """What the shim says once it has had the time to try again a registry that was down."""
    if told.get("retry_in_s") is None:
        return told
    await asyncio.sleep(min(told["retry_in_s"], LONGEST_S) + _TRIAL_S)
    try:
        status = await asyncio.to_thread(admin.status, node.endpoint)
    except AdminError:
        return told
    registries = status.facts["registries"]
    return next((one for one in registries if one["address"] == told["address"]), told)


def _service_mend(node: Node, registry: Registry) -> str:
    """What the service has that this process has not: a proxy, or news of before."""
    peer = peer_of(node.endpoint.admin_socket)
    environ = None if peer is None else peer.environ
    if environ is not None and proxies.in_the_way(environ, registry):
        typed = proxies.service_without(environ, registry)
        return f"{typed}  # the service has a proxy, which does not reach it"
    return f"systemctl restart {SERVICE}"
