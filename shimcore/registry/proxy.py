"""Which proxy a request goes through: containerd's rules, since it will pull over the same way.

The environment is read as Go's net/http does (`HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`, also in
lower case; https://pkg.go.dev/golang.org/x/net/http/httpproxy): loopback never goes through a
proxy, and NO_PROXY knows addresses, networks (`10.0.0.0/8`), names with their subdomains, `.names`
(subdomains only), ports and `*`. The HTTP library's own reading has no networks, and a hub inside
`NO_PROXY=10.0.0.0/8` would be asked through the proxy.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class ProxyRules:
    """The proxies of an environment; an empty string means none."""

    http: str
    https: str
    exceptions: tuple[str, ...]

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> ProxyRules:
        """Read the variables; the upper-case name is taken first, as Go does."""

        def read(name: str) -> str:
            return environ.get(name) or environ.get(name.lower()) or ""

        exceptions = (entry.strip().lower() for entry in read("NO_PROXY").split(","))
        return cls(
            http=_with_scheme(read("HTTP_PROXY").strip()),
            https=_with_scheme(read("HTTPS_PROXY").strip()),
            exceptions=tuple(entry for entry in exceptions if entry),
        )

    def proxy_for(self, scheme: str, host: str, port: int) -> str:
        """Return the proxy's URL for a request to that origin, or the empty string."""
        proxy = self.https if scheme == "https" else self.http
        if not proxy or self._goes_direct(host.strip("[]").rstrip(".").lower(), port):
            return ""
        return proxy

    def _goes_direct(self, host: str, port: int) -> bool:
        address = _address(host)
        if host == "localhost" or (address is not None and address.is_loopback):
            return True
        return any(_matches(entry, host, address, port) for entry in self.exceptions)


def _with_scheme(proxy: str) -> str:
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def _address(host: str) -> IPAddress | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _matches(entry: str, host: str, address: IPAddress | None, port: int) -> bool:
    """Say whether one NO_PROXY entry covers the host."""
    if entry == "*":
        return True
    if "/" in entry:
        return address is not None and _in_network(entry, address)
    name, entry_port = _split_port(entry)
    if entry_port and entry_port != str(port):
        return False
    if (exact := _address(name)) is not None:
        return exact == address
    name = name.removeprefix("*")
    if name.startswith("."):
        return host.endswith(name)
    return host == name or host.endswith("." + name)


def _in_network(entry: str, address: IPAddress) -> bool:
    try:
        return address in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False


def _split_port(entry: str) -> tuple[str, str]:
    """Split `host:port`, `[v6]:port`; a bare IPv6 address has no port."""
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        return name, rest.removeprefix(":")
    if entry.count(":") == 1:
        name, _, port = entry.partition(":")
        return name, port
    return entry, ""
