"""Parses what the runtime answered."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from shimcore.runtime.errors import RuntimeCallError, StatusCode

M = TypeVar("M", bound=Message)


def parsed(kind: type[M], message: bytes) -> M:
    """`message` as a `kind`; bytes that are none are an INTERNAL error, as in gRPC itself."""
    try:
        return kind.FromString(message)
    except DecodeError as error:
        name = kind.DESCRIPTOR.full_name
        raise RuntimeCallError(StatusCode.INTERNAL, f"not a {name}: {error}") from error
