"""Text → reference, by the grammar and normalisation of distribution/reference.

reference := name [":" tag] ["@" digest]        name   := [domain "/"] path
domain    := host [":" port]                    host   := domain-name | "[" IPv6 "]"
port      := 1 to 65535, no leading zero (the grammar there takes any digits)
path      := component ("/" component)*         tag    := [A-Za-z0-9_][A-Za-z0-9_.-]{0,127}
component := alnum (("." | "_" | "__" | "-"+) alnum)*

Every refusal is a ReferenceSyntaxError whose position is the first character that
the grammar cannot accept.
"""

from __future__ import annotations

import re
from typing import NoReturn

from shimcore.errors import ReferenceSyntaxError
from shimcore.reference.value import (
    DIGEST_HEX_LENGTH,
    DOCKER_HUB,
    OFFICIAL_PREFIX,
    ImageID,
    Reference,
    looks_like_domain,
    reads_as_image_id,
)

NAME_LIMIT = 1024
"""Longest text that is looked at: a name of the longest host, path, tag and digest has 780."""

PATH_LIMIT = 255
"""Longest path, in characters (distribution/reference, `RepositoryNameTotalLengthMax`)."""

DOMAIN_LIMIT = 259
"""Longest host: 253 characters of a name (RFC 1035 §2.3.4), a colon and five digits."""

TAG_LIMIT = 128
"""Longest tag, in characters (the grammar's `tag`)."""

_LEGACY_HUB = "index.docker.io"

_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*")
_SEPARATOR = re.compile(r"__|[._]|-+")
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?")
_LABEL_RUN = re.compile(r"[A-Za-z0-9-]*")
_IPV6 = re.compile(r"\[[a-fA-F0-9:]+\]")
_IPV6_RUN = re.compile(r"\[[a-fA-F0-9:]*")
_DIGITS = re.compile(r"[0-9]*")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_PORT_LIMIT = 65535
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_HEX = re.compile(r"[a-f0-9]*")


def parse(text: str) -> Reference | ImageID:
    """The reference or image ID that `text` names; `:latest` when neither tag nor digest is there.

    64 lower-case hex digits, or a whole digest (`sha256:` and 64 of them), is an ID.
    Raises ReferenceSyntaxError, nothing else.
    """
    if len(text) > NAME_LIMIT:
        reason = f"a name is longer than {NAME_LIMIT} characters"
        raise ReferenceSyntaxError(text, NAME_LIMIT, reason)
    return ImageID(text) if reads_as_image_id(text) else _parse_name(text)


def parse_reference(text: str) -> Reference:
    """Like `parse`, for a name only: an image ID is a ReferenceSyntaxError, too."""
    named = parse(text)
    if isinstance(named, ImageID):
        raise ReferenceSyntaxError(text, 0, "this is an image ID, not a name")
    return named


def valid_domain(text: str) -> bool:
    """True when `text` can stand as the domain of a reference and is read as one."""
    return looks_like_domain(text) and _domain_fault(text) is None


def valid_path(text: str) -> bool:
    """True when `text` is a repository path: components of the grammar, at most 255 characters."""
    return len(text) <= PATH_LIMIT and all(_COMPONENT.fullmatch(part) for part in text.split("/"))


def _parse_name(text: str) -> Reference:
    if not text:
        raise ReferenceSyntaxError(text, 0, "the name is empty")
    domain, start = _split_domain(text)
    path_end = _first_of(text, ":@", start)
    _check_path(text, start, path_end)
    tag, digest = _tag_and_digest(text, path_end)
    path = text[start:path_end]
    if domain == DOCKER_HUB and "/" not in path:
        path = OFFICIAL_PREFIX + path
    if len(path) > PATH_LIMIT:
        raise ReferenceSyntaxError(
            text,
            path_end - (len(path) - PATH_LIMIT),
            f"the repository name is longer than {PATH_LIMIT} characters",
        )
    return Reference(domain, path, tag if tag or digest else "latest", digest)


def _split_domain(text: str) -> tuple[str, int]:
    """The domain, and the offset at which the path starts (`splitDockerDomain`)."""
    first, slash, _ = text.partition("/")
    if not slash or not looks_like_domain(first):
        return DOCKER_HUB, 0
    fault = _domain_fault(first)
    if fault is not None:
        raise ReferenceSyntaxError(text, *fault)
    return (DOCKER_HUB if first == _LEGACY_HUB else first), len(first) + 1


def _domain_fault(text: str) -> tuple[int, str] | None:
    """domain := (label ("." label)* | "[" IPv6 "]") [":" digits]; None when it is one."""
    if len(text) > DOMAIN_LIMIT:
        return DOMAIN_LIMIT, f"a registry host is longer than {DOMAIN_LIMIT} characters"
    host_end = _ipv6_end(text) if text.startswith("[") else _labels_end(text)
    if isinstance(host_end, tuple):
        return host_end
    return _port_fault(text, host_end)


def _port_fault(text: str, host_end: int) -> tuple[int, str] | None:
    """[":" port] after the host."""
    if host_end == len(text):
        return None
    if text[host_end] != ":":
        return host_end, "a registry host cannot have this character"
    digits = _DIGITS.match(text, host_end + 1)
    port_end = digits.end() if digits else host_end + 1
    if port_end < len(text):
        return port_end, "a port is digits only"
    if port_end == host_end + 1:
        return port_end, "the port is missing"
    port = _PORT.fullmatch(text, host_end + 1)
    if not port or int(port[0]) > _PORT_LIMIT:
        return host_end + 1, f"a port is 1 to {_PORT_LIMIT}, with no zero in front"
    return None


def _ipv6_end(text: str) -> int | tuple[int, str]:
    """Offset after `[IPv6]`, or the fault; no zones, no dotted forms (the grammar's choice)."""
    address = _IPV6.match(text)
    if address:
        return address.end()
    run = _IPV6_RUN.match(text)
    return (run.end() if run else 0), "an IPv6 host is hex digits and colons between brackets"


def _labels_end(text: str) -> int | tuple[int, str]:
    """Offset after `label ("." label)*`, or the fault."""
    position = 0
    while True:
        label = _LABEL.match(text, position)
        if not label:
            return position, "a registry host cannot have this character"
        run = _LABEL_RUN.match(text, position)
        if run and run.end() > label.end():
            return label.end(), "a part of a host cannot end with a dash"
        position = label.end()
        if text[position : position + 1] != ".":
            return position
        position += 1


def _check_path(text: str, start: int, end: int) -> None:
    """path := component ("/" component)*"""
    position = start
    while True:
        slash = text.find("/", position, end)
        stop = end if slash < 0 else slash
        if not _COMPONENT.fullmatch(text, position, stop):
            _refuse_component(text, position, stop, end)
        if slash < 0:
            return
        position = slash + 1


def _refuse_component(text: str, start: int, stop: int, path_end: int) -> NoReturn:
    for offset in range(start, path_end):
        if text[offset].isupper():
            raise ReferenceSyntaxError(text, offset, "repository name must be lowercase")
    if start == stop:
        raise ReferenceSyntaxError(text, start, "a component of the name is empty")
    accepted = _COMPONENT.match(text, start, stop)
    offset = accepted.end() if accepted else start
    separator = _SEPARATOR.match(text, offset, stop) if accepted else None
    if separator and separator.end() == stop:
        raise ReferenceSyntaxError(text, offset, "a component cannot end with a separator")
    offset = separator.end() if separator else offset
    reason = (
        "a component starts with a letter or digit, and separators stand alone"
        if text[offset] in "._-"
        else "a repository name cannot have this character"
    )
    raise ReferenceSyntaxError(text, offset, reason)


def _tag_and_digest(text: str, position: int) -> tuple[str | None, str | None]:
    tag = digest = None
    if text[position : position + 1] == ":":
        end = _first_of(text, "@", position)
        tag = _tag(text, position + 1, end)
        position = end
    if position < len(text):
        digest = _digest(text, position + 1)
    return tag, digest


def _tag(text: str, start: int, end: int) -> str:
    """tag := [A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"""
    accepted = _TAG.match(text, start, end)
    if start == end:
        raise ReferenceSyntaxError(text, start, "the tag is empty")
    if not accepted or accepted.end() < end:
        raise ReferenceSyntaxError(
            text, accepted.end() if accepted else start, "a tag cannot have this character here"
        )
    if end - start > TAG_LIMIT:
        raise ReferenceSyntaxError(
            text, start + TAG_LIMIT, f"the tag is longer than {TAG_LIMIT} characters"
        )
    return text[start:end]


def _digest(text: str, start: int) -> str:
    """digest := algorithm ":" hex; a known algorithm, its hex lower-case and whole (go-digest)."""
    algorithm, colon, encoded = text[start:].partition(":")
    length = DIGEST_HEX_LENGTH.get(algorithm)
    if not colon or length is None:
        known = ", ".join(DIGEST_HEX_LENGTH)
        raise ReferenceSyntaxError(text, start, f"a digest is one of {known}, a colon and its hex")
    hex_start = start + len(algorithm) + 1
    accepted = _HEX.match(encoded)
    count = accepted.end() if accepted else 0
    if count < len(encoded):
        raise ReferenceSyntaxError(text, hex_start + count, "a digest is lower-case hex digits")
    if count != length:
        raise ReferenceSyntaxError(
            text, hex_start + min(count, length), f"a {algorithm} digest has {length} hex digits"
        )
    return text[start:]


def _first_of(text: str, characters: str, start: int) -> int:
    """Offset of the first of `characters` from `start` on; the text's length if none is there."""
    found = [offset for offset in (text.find(c, start) for c in characters) if offset >= 0]
    return min(found, default=len(text))
