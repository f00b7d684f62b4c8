"""What mends a registry that is not well: found out by asking it in another way, where that tells.

What is asked besides carries no login, and nothing of its answer is believed but that it came.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import httpcore

from shimcore.config import Registry
from shimcore.doctor import proxies
from shimcore.doctor.node import Node
from shimcore.doctor.runtime_way import wire
from shimcore.lookup import LookupBackend, Lookups
from shimcore.registry.answers import PingReport, TlsReport
from shimcore.registry.client import RegistryClient

ANSWER_S = 5.0
"""For an answer besides: the resolver's, or that of the other scheme."""

SET_CLOCK = "date --utc --set='YYYY-MM-DD HH:MM'"
_CLOCK = f"set this node's clock ({SET_CLOCK}, or its time server)"


async def mend_of(node: Node, source: str, registry: Registry, report: PingReport) -> str:
    """What to do about it; `source` is where its address is written."""
    beside = f"in {source}, beside its address,"
    if report.login in {"not configured", "refused"}:
        return f"{_login(registry, beside, report.login)}{node.reload}"
    tls = report.tls
    if tls is not None and (mend := _certificate(node, beside, tls)):
        return mend
    if tls is not None and tls.wrong_name:
        name = urlsplit(registry.address).hostname
        return (
            f"have a certificate issued that is for {name}, too; or, in {source}, write its "
            f"address with a name that its certificate has{_then(node)}"
        )
    if tls is not None and not tls.verified:
        return (
            "put the certificate of the authority that issued its own on this node, and "
            f"{beside} name it (caFile: FILE){_then(node)}"
        )
    return await _not_reached(node, source, registry, report)


def _login(registry: Registry, beside: str, login: str) -> str:
    """Where the right one goes, and as what: each of its places has a form of its own."""
    if registry.docker_config:
        return in_docker_config(registry.docker_config, registry.host)
    if registry.password_file and registry.credentials:
        if _text(registry.password_file) == registry.credentials.password:
            user = registry.credentials.username
            return f"write the password of {user} alone into {registry.password_file}"
        return f"write the right login into {registry.password_file} (USER:PASSWORD)"
    what = "a login" if login == "not configured" else "the right login"
    return f"{beside} write {what} (auth: USER:PASSWORD)"


def in_docker_config(file: str, host: str) -> str:
    """How a docker config.json gets the login of a host."""
    return f"put the login of {host} under auths in {file} (docker login {host})"


def _text(file: str) -> str:
    """The line of a file; "" where it cannot be read."""
    try:
        return Path(file).read_text(encoding="utf-8-sig").rstrip("\r\n")
    except (OSError, UnicodeError):
        return ""


def _certificate(node: Node, beside: str, tls: TlsReport) -> str:
    """For one that does not hold today, or one above it; "" where that is not what is wrong."""
    if tls.days_left < 0:
        return f"renew its certificate; if it should still hold, {_CLOCK}"
    if tls.begins_in_days:
        begins = f"its certificate begins in {tls.begins_in_days} days only"
        return f"{SET_CLOCK}  # with the right time: {begins}"
    if tls.authority == "expired":
        renew = f"renew that authority, and {beside} name its new certificate (caFile: FILE)"
        return f"{renew}{_then(node)}  # if it should still hold, {_CLOCK}"
    if tls.authority:
        return f"{SET_CLOCK}  # with the right time: its authority's certificate begins later"
    return ""


def _then(node: Node) -> str:
    """The shim and the runtime take it up."""
    return f"{node.reload} && {wire(node)}" if node.reload else f"; then {wire(node)}"


async def _not_reached(node: Node, source: str, registry: Registry, report: PingReport) -> str:
    """For one that has not answered as a registry does."""
    name = urlsplit(registry.address).hostname or registry.host
    if proxies.in_the_way(os.environ, registry):
        return await _past_the_proxy(registry)
    if mend := await name_mend(name):
        return mend
    if other := await _other_scheme(registry):
        return f"in {source}, write {other} as its address{_then(node)}"
    if report.reachable:
        return (
            f"see its own log, if this is the registry; if not, in {source}, write the registry's "
            f"own address and port{_then(node)}"
        )
    return f"start it, and see that this node reaches it: curl -v {registry.address}/v2/"


async def _past_the_proxy(registry: Registry) -> str:
    """For one that this shell has a proxy for."""
    if variable := proxies.unusable(os.environ, registry):
        return f"mend {variable} of this shell, or leave it out: unset {variable}"
    if not await _connects(registry):
        return f"start it, or this shell's proxy to it: curl -v {registry.address}/v2/"
    without = proxies.exception(os.environ, registry)
    return f"export {without}  # this shell has a proxy, which does not reach it"


async def _connects(registry: Registry) -> bool:
    """Whether something listens there, asked past every proxy."""
    url = urlsplit(registry.address)
    port = url.port or proxies.PORTS[registry.scheme]
    try:
        stream = await LookupBackend().connect_tcp(url.hostname or "", port, ANSWER_S)
    except (httpcore.ConnectError, httpcore.ConnectTimeout, OSError, UnicodeError):
        return False
    await stream.aclose()
    return True


async def name_mend(name: str) -> str:
    """For a name without an address, or whose lookup does not end; "" for any other."""
    try:
        async with asyncio.timeout(ANSWER_S):
            await Lookups().addresses(name)
    except socket.gaierror:
        return f"echo 'ADDRESS {name}' >> /etc/hosts  # with its address, or add it to the DNS"
    except TimeoutError:
        return f"getent ahosts {name}  # to be answered at once by the servers of /etc/resolv.conf"
    except (OSError, UnicodeError):
        pass
    return ""


async def _other_scheme(registry: Registry) -> str:
    """Its address with the other scheme, if that is what it speaks; else ""."""
    scheme = "http" if registry.scheme == "https" else "https"
    address = f"{scheme}://{registry.address.partition('://')[2]}"
    asked = Registry.unconfigured(address, scheme, registry.host)
    async with aclosing(RegistryClient([asked], probe_timeout_s=ANSWER_S)) as client:
        report = await client.ping(replace(asked, insecure_skip_verify=scheme == "https"))
    return address if report.login != "unknown" else ""
