"""Reads what the runtime answered."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from shimcore.runtime.errors import RuntimeCallError, StatusCode

M = TypeVar("M", bound=Message)
T = TypeVar("T")


def parsed(kind: type[M], message: bytes) -> M:
    """`message` as a `kind`; bytes that are none are an INTERNAL error, as in gRPC itself."""
    try:
        return kind.FromString(message)
    except DecodeError as error:
        name = kind.DESCRIPTOR.full_name
        raise RuntimeCallError(StatusCode.INTERNAL, f"not a {name}: {error}") from error


async def unless_absent(call: Awaitable[T]) -> T | None:
    """What a call answers; None where the runtime answers NOT_FOUND."""
    try:
        return await call
    except RuntimeCallError as error:
        if error.code == StatusCode.NOT_FOUND:
            return None
        raise
