"""A caller's metadata, so that it can go along with a call on the side (trace context)."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable

_KEY = re.compile(rb"[0-9a-z_.-]{1,256}")
_TEXT = re.compile(rb"[\x20-\x7e]*")


def passed_along(fields: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[str, str | bytes], ...]:
    """The fields as grpc takes them; what it would refuse stays away.

    Binary values are base64 on the wire and bytes here (gRPC over HTTP/2, "Custom-Metadata").
    """
    given: list[tuple[str, str | bytes]] = []
    for key, value in fields:
        if not _KEY.fullmatch(key):
            continue
        if key.endswith(b"-bin"):
            padded = value + b"=" * (-len(value) % 4)
            try:
                given.append((key.decode(), base64.b64decode(padded, validate=True)))
            except binascii.Error:
                continue
        elif _TEXT.fullmatch(value):
            given.append((key.decode(), value.decode()))
    return tuple(given)
