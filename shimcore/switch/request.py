"""What is asked of a node: `request.json`, read with bounds."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from shimcore.errors import ShimError
from shimcore.switch.places import CURRENT, REQUEST
from shimcore.systemd.root import Root

MOST_BYTES = 1 << 20
SHORTEST_HEALTH_S, LONGEST_HEALTH_S = 5, 120
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~_-]{0,127}")
_REVISION = re.compile(r"[A-Za-z0-9._+-]{1,128}")


class Mode(StrEnum):
    """To have the shim, or not to have it any more."""

    INSTALL = "install"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class SwitchRequest:
    """`config` None leaves the node's file as it is; `health_s`: in which it has to be well."""

    revision: str
    version: str
    mode: Mode
    config: str | None
    wire_runtime: bool
    wire_kubelet: bool
    health_s: int


def read_request(root: Root) -> SwitchRequest:
    """The request of this node. Raises ShimError for one that is missing or makes no sense."""
    place = root.host(REQUEST)
    try:
        if place.stat().st_size > MOST_BYTES:
            raise ShimError(f"{REQUEST}: longer than {MOST_BYTES} bytes")
        content = json.loads(place.read_bytes())
    except OSError as error:
        raise ShimError(f"{REQUEST}: {error.strerror}; nothing is asked of this node") from error
    except (ValueError, RecursionError) as error:
        raise ShimError(f"{REQUEST}: not JSON ({error})") from error
    if not isinstance(content, dict):
        raise ShimError(f"{REQUEST}: an object expected")
    return _request(content)


def _request(content: Mapping[str, Any]) -> SwitchRequest:
    config = content.get("config")
    if config is not None and not isinstance(config, str):
        raise ShimError(f"{REQUEST}: config: a text or null expected")
    try:
        mode = Mode(content.get("mode", ""))
    except ValueError as error:
        raise ShimError(f"{REQUEST}: mode: install or remove expected") from error
    version = _name(content, "version", _VERSION)
    if version == posixpath.basename(CURRENT):
        raise ShimError(f"{REQUEST}: version: {version} is the name of the link to one")
    return SwitchRequest(
        revision=_name(content, "revision", _REVISION),
        version=version,
        mode=mode,
        config=config,
        wire_runtime=_flag(content, "wire_runtime"),
        wire_kubelet=_flag(content, "wire_kubelet"),
        health_s=_seconds(content.get("health_s", 20)),
    )


def _name(content: Mapping[str, Any], key: str, pattern: re.Pattern[str]) -> str:
    value = content.get(key)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ShimError(f"{REQUEST}: {key}: letters, digits, dots and dashes expected")
    return value


def _flag(content: Mapping[str, Any], key: str) -> bool:
    value = content.get(key, True)
    if not isinstance(value, bool):
        raise ShimError(f"{REQUEST}: {key}: true or false expected")
    return value


def _seconds(value: Any) -> int:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or not SHORTEST_HEALTH_S <= value <= LONGEST_HEALTH_S:
        raise ShimError(
            f"{REQUEST}: health_s: a number of {SHORTEST_HEALTH_S} to {LONGEST_HEALTH_S} expected"
        )
    return int(value)
