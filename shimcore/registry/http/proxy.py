"""Which proxy a request goes through: containerd's rules, since it will pull over the same way.

The environment is read as Go's net/http does (`HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`, also in
lower case; https://pkg.go.dev/golang.org/x/net/http/httpproxy): loopback never goes through a
proxy, and NO_PROXY knows addresses, networks (`10.0.0.0/8`), names with their subdomains, `.names`
(subdomains only), ports and `*`. The HTTP library's own reading has no networks, and a hub inside
`NO_PROXY=10.0.0.0/8` would be asked through the proxy.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import unquote_to_bytes

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_PROXY = re.compile(
    r"(?P<scheme>[a-z0-9+.-]+)://(?:(?P<login>[^/?#]*)@)?"
    r"(?P<host>[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{0,5}))?(?:[/?#][^@]*)?",
    re.IGNORECASE | re.DOTALL,
)
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that can be used; `str` is its host and port, for people."""

    scheme: str
    host: str
    port: int
    login: tuple[bytes, bytes] | None = field(repr=False)

    def __str__(self) -> str:
        """Print as `host:port`."""
        return f"{self.host}:{self.port}"


def read_proxy(text: str) -> Proxy:
    """Return the proxy of a URL. Raises ValueError, whose words repeat nothing of the URL.

    Any part of it may be a piece of a password that should have been percent-encoded.
    """
    found = _PROXY.fullmatch(text)
    if found is None:
        raise ValueError(
            "it is not http://user:password@host:port; in the password, / ? # @ : and % are "
            "written %2F %3F %23 %40 %3A %25"
        )
    scheme = found["scheme"].lower()
    if scheme not in _PORTS:
        raise ValueError("only http:// and https:// proxies are supported")
    port = int(found["port"] or _PORTS[scheme])
    if not 0 < port < 65536:
        raise ValueError("its port is not between 1 and 65535")
    login = None
    if found["login"]:
        user, _, password = found["login"].partition(":")
        login = unquote_to_bytes(user), unquote_to_bytes(password)
    return Proxy(scheme, found["host"].lower(), port, login)


@dataclass(frozen=True, slots=True)
class ProxyRules:
    """The proxies of an environment; an empty string means none."""

    http: str = field(repr=False)
    https: str = field(repr=False)
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
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _matches(entry: str, host: str, address: IPAddress | None, port: int) -> bool:
    """Say whether one NO_PROXY entry covers the host."""
    if entry == "*":
        return True
    if "/" in entry:
        return address is not None and _in_network(entry, address)
    name, entry_port = _split_port(entry)
    if entry_port and entry_port != str(port):
        return False
    exact = _address(name)
    if exact is not None or address is not None:
        return exact == address
    name = _ascii(name[1:] if name.startswith("*.") else name)
    if name.startswith("."):
        return host.endswith(name)
    return host == name or host.endswith("." + name)


@lru_cache(maxsize=64)
def _ascii(name: str) -> str:
    """Return a name as it is on the wire (IDNA), or as it is if it has no such form."""
    if name.isascii():
        return name
    import idna  # noqa: PLC0415 - httpx's, slow to import, and seldom needed

    try:
        dot = "." * name.startswith(".")
        return dot + idna.encode(name.removeprefix("."), uts46=True).decode("ascii")
    except UnicodeError:
        return name


def _in_network(entry: str, address: IPAddress) -> bool:
    try:
        network = ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
    return address in network and entry.rpartition("/")[2].isdecimal()  # no mask


def _split_port(entry: str) -> tuple[str, str]:
    """Split `host:port`, `[v6]:port`; a bare IPv6 address has no port, nor brackets."""
    if entry.startswith("[") and "]:" in entry:
        name, _, port = entry[1:].partition("]:")
        return name, port
    if entry.count(":") == 1:
        name, _, port = entry.partition(":")
        return name, port
    return entry, ""
