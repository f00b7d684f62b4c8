"""Text → value, one reader for each kind of key.

Each reader returns the value or raises ValueError with what is wrong. A text that may
hold a secret is never part of a reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from shimcore.config.durations import parse_duration
from shimcore.config.keys import Key, Kind
from shimcore.errors import ReferenceSyntaxError
from shimcore.reference import (
    DOCKER_HUB,
    is_docker_hub,
    parse_reference,
    template_fault,
    valid_domain,
)

SOCKET_PATH_LIMIT_BYTES = 107
"""Longest path of a unix socket: sun_path is 108 bytes with its NUL (unix(7))."""

_DOCKER_HUB_API = "registry-1.docker.io"
_API_PORTS = {"https": ":443", "http": ":80"}

_TRUE = {"true", "yes", "on", "y"}
_FALSE = {"false", "no", "off", "n"}
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_LISTEN_HOST = re.compile(r"[A-Za-z0-9._-]*|\[[A-Fa-f0-9:.]+\]")
_PORT = re.compile(r"[0-9]{1,5}")
_OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_API_PATHS = {"", "/v1", "/v2"}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a registry is (`https://host:port`), and its host in image names."""

    url: str
    scheme: str
    host: str


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
    """Seconds, never negative, of a Go duration."""
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise ValueError(f"{error} (not {shown(text)})") from None
    if seconds < 0:
        raise ValueError("a duration cannot be negative")
    return seconds


def socket(text: str) -> str:
    """The absolute path of a unix socket: plain, `unix:///run/x.sock` or `unix:/run/x.sock`."""
    path = text.removeprefix("unix://") if text.startswith("unix://") else text
    path = path.removeprefix("unix:")
    if "://" in path:
        raise ValueError(f"only unix sockets are served, not {shown(text)}")
    if not path.startswith("/"):
        raise ValueError(f"an absolute path expected (unix:///run/x.sock), not {shown(text)}")
    path = _clean_path(path)
    if len(path.encode()) > SOCKET_PATH_LIMIT_BYTES:
        raise ValueError(f"a socket's path has at most {SOCKET_PATH_LIMIT_BYTES} bytes")
    return path


def path_text(text: str) -> str:
    """A file's path."""
    return _clean_path(text)


def _clean_path(text: str) -> str:
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
        port = parts.port
    except ValueError:
        raise ValueError("not an address: http://host:port or https://host:port expected") from None
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
    if port == 0:
        raise ValueError("port 0 is no port")
    return _named(scheme, host)


def _named(scheme: str, host: str) -> Address:
    if is_docker_hub(host):
        return Address(f"{scheme}://{_DOCKER_HUB_API}", scheme, DOCKER_HUB)
    # A host of one word would be read as a part of a Docker Hub name; with a port it is not.
    in_names = host if valid_domain(host) else host + _API_PORTS[scheme]
    if not host or not valid_domain(in_names):
        raise ValueError("no image name can have this host")
    return Address(f"{scheme}://{host}", scheme, in_names)


def listen(text: str) -> str:
    """`host:port` of `host:port`, `:port` or `port`; a port alone is loopback's."""
    host, _, port = text.rpartition(":")
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise ValueError(f"host:port, :port or a port expected, not {shown(text)}")
    if not _LISTEN_HOST.fullmatch(host):
        raise ValueError(f"host:port, :port or a port expected, not {shown(text)}")
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


def choice(key: Key, text: str) -> str:
    """One of the key's choices."""
    if text not in key.choices:
        raise ValueError(f"one of {', '.join(key.choices)} expected, not {shown(text)}")
    return text


SCALARS: dict[Kind, Callable[[str], object]] = {
    Kind.BOOLEAN: boolean,
    Kind.INTEGER: integer,
    Kind.DURATION: duration,
    Kind.SOCKET: socket,
    Kind.ADDRESS: address,
    Kind.SECRET: str,
    Kind.PATH: path_text,
    Kind.LISTEN: listen,
    Kind.TEMPLATE: template,
    Kind.NAME: object_name,
    Kind.IMAGE: image,
}
ITEMS: dict[Kind, Callable[[str], str]] = {Kind.DOMAINS: domain_pattern, Kind.PATTERNS: str}
