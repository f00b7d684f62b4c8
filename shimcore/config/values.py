"""Text → value, one reader for each kind of key.

Each reader returns the value or raises ValueError with what is wrong. A text that may
hold a secret is never part of a reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from urllib.parse import urlsplit

from shimcore.config.durations import parse_duration
from shimcore.config.keys import Kind
from shimcore.errors import ReferenceSyntaxError
from shimcore.reference import (
    DOCKER_HUB,
    DOCKER_HUB_SERVER,
    is_docker_hub,
    parse_reference,
    template_fault,
    valid_domain,
)
from shimcore.unixsocket import socket_path

SOCKET_PATH_LIMIT_BYTES = 107
"""Longest path of a unix socket: sun_path is 108 bytes with its NUL (unix(7))."""

PORT_LIMIT = 65535
HOST_LIMIT, LABEL_LIMIT = 253, 63
"""Longest host name, and longest part of one (RFC 1035 §2.3.4)."""
PATTERN_LIMIT = 256
"""Longest pattern, in characters."""

_NO_ADDRESS = "not an address: http://host:port or https://host:port expected"
_NO_HOST = "no host has this name: a part of it is too long, or is no IDNA or IP"
_API_PORTS = {"https": ":443", "http": ":80"}

_TRUE = {"true", "yes", "on", "y"}
_FALSE = {"false", "no", "off", "n"}
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_LISTEN_HOST = re.compile(r"[A-Za-z0-9._-]*|\[[A-Fa-f0-9:.]+\]")
_PORT = re.compile(r"[0-9]{1,5}")
_PORT_AFTER = re.compile(r"(?<=[^:]):([^:\]]*)$")
# What httpx takes for an IPv4 address.
_LIKE_IPV4 = re.compile(r"[0-9]+(?:\.[0-9]+){3}")
_OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_API_PATHS = {"", "/v1", "/v2"}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a registry is (`https://host:port`), and its host in image names."""

    url: str
    scheme: str
    host: str

    @property
    def plain_host(self) -> str:
        """The host as it is compared: without the port that the scheme stands for."""
        return self.plain(self.host)

    def plain(self, host: str) -> str:
        """Another text for a host, as `plain_host` is written: the same for the same server."""
        plain = host.lower().removesuffix(_API_PORTS[self.scheme])
        return DOCKER_HUB if is_docker_hub(plain) else plain

    @property
    def place(self) -> str:
        """The same text for equal addresses: scheme, host and port."""
        return place_of(self.scheme, self.host)


def place_of(scheme: str, host: str) -> str:
    """What tells registries apart: scheme, host and port."""
    return f"{scheme}://{host.removesuffix(_API_PORTS[scheme])}"


def shown(text: str) -> str:
    """The text in quotes for a reason, shortened; only for kinds that hold no secret."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def boolean(text: str) -> bool:
    """`true` or `false`, and YAML 1.1's other words for them, as the Go shim takes them."""
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError(f"true or false expected, not {shown(text)}")


def integer(text: str) -> int:
    """A decimal integer of at most 18 digits."""
    if not _INTEGER.fullmatch(text):
        raise ValueError(f"a whole number expected, not {shown(text)}")
    return int(text)


def duration(text: str) -> float:
    """Seconds of a Go duration."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ValueError(f"{error} (not {shown(text)})") from None


def socket(text: str) -> str:
    """The absolute path of a unix socket: plain, `unix:///run/x.sock` or `unix:/run/x.sock`."""
    path = socket_path(text)
    if "://" in path:
        raise ValueError(f"only unix sockets are served, not {shown(text)}")
    if not path.startswith("/"):
        raise ValueError(f"an absolute path expected (unix:///run/x.sock), not {shown(text)}")
    path = path_text(path)
    if len(path.encode()) > SOCKET_PATH_LIMIT_BYTES:
        raise ValueError(f"a socket's path has at most {SOCKET_PATH_LIMIT_BYTES} bytes")
    return path


def path_text(text: str) -> str:
    """A file's path."""
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise ValueError("a path cannot have control characters")
    return text


def address(text: str) -> Address:
    """A registry's address; https without a scheme, a trailing slash and /v2 taken off.

    No reason repeats the text: what stands here by mistake is often a login.
    """
    if "@" in text:
        raise ValueError("a login does not belong in the address; put it in auth")
    url = text if "://" in text else f"https://{text}"
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(_NO_ADDRESS) from None
    scheme, host = parts.scheme.lower(), parts.netloc.lower()
    if scheme not in _API_PORTS:
        raise ValueError("an address starts with http:// or https://")
    if parts.query or parts.fragment or any(mark in text for mark in "?#"):
        raise ValueError("an address has no query and no fragment")
    if parts.path.rstrip("/") not in _API_PATHS:
        raise ValueError(
            "an address has no path after the host; a project goes into the key path, "
            "as in path: project/{path}"
        )
    port = _PORT_AFTER.search(host)
    if port and not port[1].isdecimal():
        raise ValueError(_NO_ADDRESS)
    if port and not _is_port(port[1]):
        raise ValueError(f"a port out of range: it is 1 to {PORT_LIMIT}, with no zero in front")
    if not _resolvable(host[: port.start()] if port else host):
        raise ValueError(_NO_HOST)
    return _named(scheme, host)


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_port(digits: str) -> bool:
    return digits[0] != "0" and len(digits) <= len(str(PORT_LIMIT)) and int(digits) <= PORT_LIMIT


def _resolvable(name: str) -> bool:
    """Whether a resolver takes the name: parts of at most 63 bytes, `xn--…` readable (RFC 5891)."""
    if len(name) > HOST_LIMIT:
        return False
    if _LIKE_IPV4.fullmatch(name) or name.startswith("["):
        return _is_ip(name.strip("[]"))
    labels = name.split(".")
    if any(len(label) > LABEL_LIMIT for label in labels):
        return False
    if not any(label.startswith("xn--") for label in labels):
        return True
    import idna  # noqa: PLC0415 - httpx's, slow to import, and seldom needed

    try:
        idna.decode(name)
    except UnicodeError:
        return False
    return True


def _named(scheme: str, host: str) -> Address:
    if is_docker_hub(host):
        return Address(f"{scheme}://{DOCKER_HUB_SERVER}", scheme, DOCKER_HUB)
    # A host of one word would be read as a part of a Docker Hub name; with a port it is not.
    in_names = host if valid_domain(host) else host + _API_PORTS[scheme]
    if not host or not valid_domain(in_names):
        raise ValueError("no image name can have this host")
    return Address(f"{scheme}://{host}", scheme, in_names)


def listen(text: str) -> str:
    """`host:port` of `host:port`, `:port` or `port`; a port alone is loopback's."""
    host, _, port = text.rpartition(":")
    if _PORT.fullmatch(port) and int(port) > PORT_LIMIT:
        raise ValueError(f"a port out of range, 1 to {PORT_LIMIT} (0 for any), in {shown(text)}")
    if not _PORT.fullmatch(port) or not _LISTEN_HOST.fullmatch(host):
        raise ValueError(f"host:port, :port or a port expected, not {shown(text)}")
    if "" in host.removesuffix(".").split(".") and host:
        raise ValueError(f"no host has this name: a part of it is empty, in {shown(text)}")
    if not _resolvable(host.lower()):
        raise ValueError(f"{_NO_HOST}, in {shown(text)}")
    return f"{host or '127.0.0.1'}:{port}"


def template(text: str) -> str:
    """A path template."""
    fault = template_fault(text)
    if fault:
        raise ValueError(f"{fault} (in {shown(text)})")
    return text


def object_name(text: str) -> str:
    """The name of an object in Kubernetes (a DNS subdomain, RFC 1123)."""
    if len(text) > 253 or not _OBJECT_NAME.fullmatch(text):
        raise ValueError(f"a name of an object in Kubernetes expected, not {shown(text)}")
    return text


def pattern(text: str) -> str:
    """A glob of images."""
    if len(text) > PATTERN_LIMIT:
        raise ValueError(f"a pattern has at most {PATTERN_LIMIT} characters")
    return text


def host_pattern(text: str) -> str:
    """A registry's `host` or `host:port`, or a pattern of them with `*`."""
    name, colon, port = text.rpartition(":")
    sample = f"{name}:1" if colon and port == "*" else text
    sample = sample.replace("*", "x.x")
    if not (valid_domain(sample) or valid_domain(f"{sample}:1")) or len(text) > PATTERN_LIMIT:
        raise ValueError(f"a registry's host expected, such as *.example.com, not {shown(text)}")
    return text.lower()


def domain_pattern(text: str) -> str:
    """A source domain, or a pattern of them with `*`."""
    if not valid_domain(text.replace("*", "x.x")):
        raise ValueError(f"a registry's domain expected, such as quay.io, not {shown(text)}")
    return text


def image(text: str) -> str:
    """An image's name, as people write it."""
    try:
        parse_reference(text)
    except ReferenceSyntaxError as error:
        raise ValueError(
            f"an image's name expected, such as registry.k8s.io/pause:3.10: {error}"
        ) from error
    return text


def choice(choices: type[StrEnum], text: str) -> StrEnum:
    """One of the choices."""
    try:
        return choices(text)
    except ValueError:
        expected = f"one of {', '.join(choices)} expected, not {shown(text)}"
        raise ValueError(expected) from None


def login(text: str) -> str:
    """`user:password`."""
    if ":" not in text:
        raise ValueError("user:password expected, and there is no colon in it")
    return text


SCALARS: dict[Kind, Callable[[str], object]] = {
    Kind.BOOLEAN: boolean,
    Kind.INTEGER: integer,
    Kind.DURATION: duration,
    Kind.SOCKET: socket,
    Kind.ADDRESS: address,
    Kind.SECRET: str,
    Kind.LOGIN: login,
    Kind.PATH: path_text,
    Kind.LISTEN: listen,
    Kind.TEMPLATE: template,
    Kind.NAME: object_name,
    Kind.IMAGE: image,
}
ITEMS: dict[Kind, Callable[[str], str]] = {
    Kind.DOMAINS: domain_pattern,
    Kind.HOSTS: host_pattern,
    Kind.PATTERNS: pattern,
}
