"""Whether a proxy of somebody's environment is asked for a registry, and what leaves it out."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from urllib.parse import urlsplit

from shimcore.config import Registry
from shimcore.registry.http.proxy import ProxyRules, read_proxy
from shimcore.systemd.units import SERVICE

PORTS = {"http": 80, "https": 443}
_FOLDER = f"/etc/systemd/system/{SERVICE}.d"


def in_the_way(environ: Mapping[str, str], registry: Registry) -> str:
    """The proxy that a process with this environment asks for the registry; "" for none."""
    url = urlsplit(registry.address)
    port = url.port or PORTS.get(url.scheme, 443)
    rules = ProxyRules.from_environment(environ)
    return rules.proxy_for(url.scheme, url.hostname or "", port)


def unusable(environ: Mapping[str, str], registry: Registry) -> str:
    """The variable of a proxy that is to be asked for the registry and cannot be; else ""."""
    try:
        read_proxy(in_the_way(environ, registry))
    except ValueError:
        name = f"{registry.scheme.upper()}_PROXY"
        return name if environ.get(name) else name.lower()
    return ""


def exception(environ: Mapping[str, str], registry: Registry) -> str:
    """The variable that leaves the registry out, with the exceptions that there are."""
    name = "NO_PROXY" if environ.get("NO_PROXY") or not environ.get("no_proxy") else "no_proxy"
    there = environ.get(name, "").strip(", ")
    host = urlsplit(registry.address).hostname or registry.host
    return f"{name}={there},{host}" if there else f"{name}={host}"


def service_without(environ: Mapping[str, str], registry: Registry) -> str:
    """The command that leaves the registry out of the proxy of the shim's service."""
    value = exception(environ, registry).replace("%", "%%").replace('"', "")
    line = shlex.quote(f'Environment="{value}"')
    return (
        f"mkdir -p {_FOLDER} && printf '%s\\n' '[Service]' {line} > {_FOLDER}/no-proxy.conf"
        f" && systemctl daemon-reload && systemctl restart {SERVICE}"
    )
