"""Each registry: reached, TLS, login; and what the shim itself has come to know of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from shimcore.doctor.finding import Finding, failed, passed, warned
from shimcore.doctor.node import Node
from shimcore.doctor.runtime_way import WIRE
from shimcore.registry.client import RegistryClient

if TYPE_CHECKING:
    from shimcore.config import Config, Registry
    from shimcore.registry.answers import PingReport

SOON_DAYS = 30
"""A certificate that ends sooner is warned about."""

LONGEST_S = 10.0
"""Of `probeTimeout`, as far as this look goes."""


async def look(node: Node) -> list[Finding]:
    """All of them, at once."""
    config = node.config
    if config is None:
        return []
    told = {one["address"]: one for one in node.facts.get("registries", ())}
    client = RegistryClient(
        config.registries, probe_timeout_s=min(config.probe_timeout_s, LONGEST_S)
    )
    try:
        reports = await asyncio.gather(*(client.ping(one) for one in config.registries))
    finally:
        await client.aclose()
    pairs = zip(config.registries, reports, strict=True)
    return [_finding(config, one, report, told.get(one.address)) for one, report in pairs]


def _finding(
    config: Config, registry: Registry, report: PingReport, told: dict[str, object] | None
) -> Finding:
    check = f"registry {registry.address}"
    if not report.ok:
        return failed(check, report.detail, _mend(config, registry, report))
    if told is not None and not told["usable"]:
        why = f"answers here, but to the shim it is {told['state']}: {told['reason']}"
        return failed(
            check,
            why,
            "systemctl restart image-cri-shim  # if it stays, compare the unit's proxy settings "
            "(systemctl show image-cri-shim -p Environment) with this shell's",
        )
    if report.tls is not None and report.tls.days_left < SOON_DAYS:
        return warned(check, f"its certificate ends in {report.tls.days_left} days", "renew it")
    login = {"accepted": "login accepted", "not needed": "no login needed"}
    return passed(check, f"answers, {login.get(report.login, f'login {report.login}')}")


def _mend(config: Config, registry: Registry, report: PingReport) -> str:
    """What to do about a registry that is not well, by what is known of it."""
    source = config.source
    if report.login == "refused":
        return f"put the right login for it into {source} (auth, passwordFile or dockerConfig)"
    if report.login == "not configured":
        return f"it wants a login: add auth or passwordFile for it to {source}"
    tls = report.tls
    if tls is not None and tls.days_left < 0:
        return "renew its certificate; if it should still hold, set this node's clock (timedatectl)"
    if tls is not None and tls.begins_in_days:
        begins = f"its certificate is valid in {tls.begins_in_days} days only"
        return f"timedatectl set-ntp true  # or set this node's clock by hand: {begins}"
    if tls is not None and not tls.verified:
        return (
            "put the certificate of the authority that issued its own on this node, and name it in "
            f"{source}, beside its address: caFile: FILE; then systemctl reload image-cri-shim && "
            f"{WIRE}"
        )
    other = "http" if registry.scheme == "https" else "https"
    return (
        f"see that it runs and that this node reaches it (curl -v {registry.address}/v2/); "
        f"if it speaks {other}, write {other}:// in {source}; behind a proxy, set NO_PROXY in the "
        "unit"
    )
