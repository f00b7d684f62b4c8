"""URLs that registries are asked at and point to, and the origins that credentials belong to."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

import httpx

LIMIT_CHARACTERS = 8 * 1024  # a CDN's signed URLs have 1 to 4 KiB
HOST_LIMIT_BYTES = 253  # RFC 1035 §2.3.4, without the root; it is repeated in errors
_DEFAULT_PORTS = {"http": 80, "https": 443}
# DNS names (IDNA's ASCII form), IPv4 and, with colons, IPv6 addresses.
_HOST = re.compile(rb"[A-Za-z0-9._-]+|(?=[^%]*:)[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?")

# URLs whose parts are remembered: images that are asked for at the same time. Together 256 KiB.
REMEMBERED = 256
REMEMBERED_CHARACTERS = 1024


class Origin(NamedTuple):
    """Scheme, host and port: the whole of what credentials are given to (RFC 6454 §4).

    The host is in ASCII, as it is on the wire: what looks like another name is seen to be one.
    """

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: httpx.URL) -> Origin:
        """Return the origin of a URL that `read_url` returned."""
        port = url.port or _DEFAULT_PORTS[url.scheme]
        return cls(url.scheme, url.raw_host.decode("ascii").lower(), port)

    def __str__(self) -> str:
        """Print as in a URL, the scheme's own port left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if _DEFAULT_PORTS.get(self.scheme) == self.port else f":{self.port}"
        return f"{self.scheme}://{host}{port}"


def read_url(text: str, base: httpx.URL | None = None) -> httpx.URL:
    """Return an absolute http or https URL, without a user name, password or fragment in it.

    A relative one is read against `base`. Raises ValueError, whose words repeat nothing of it.
    """
    if len(text) > LIMIT_CHARACTERS:
        raise ValueError(f"a URL of more than {LIMIT_CHARACTERS} characters")
    try:
        url = base.join(text) if base is not None else httpx.URL(text)
        if url.userinfo or url.fragment:
            url = url.copy_with(username="", password="", fragment=None)
    except httpx.InvalidURL:
        raise ValueError("not a URL") from None
    if url.scheme not in _DEFAULT_PORTS:
        raise ValueError("neither an http nor an https URL")
    if not _HOST.fullmatch(url.raw_host) or len(url.raw_host) > HOST_LIMIT_BYTES:
        raise ValueError("a URL without a host")
    if url.port is not None and not 0 < url.port < 65536:
        raise ValueError("a URL whose port is not between 1 and 65535")
    return url


def asked_url(text: str) -> httpx.URL:
    """`read_url` of an absolute URL; the same few are asked again and again."""
    return _remembered(text) if len(text) <= REMEMBERED_CHARACTERS else read_url(text)


_remembered = lru_cache(maxsize=REMEMBERED)(read_url)
