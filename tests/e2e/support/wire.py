"""Protobuf messages by field number: what the tests send owes nothing to the project's protos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

Value: TypeAlias = "int | str | bytes | Mapping[int, Value] | Sequence[Value]"
Fields: TypeAlias = Mapping[int, Value]
Decoded: TypeAlias = dict[int, list[int | bytes]]


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field(number: int, value: Value) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    if isinstance(value, str):
        value = value.encode()
    elif isinstance(value, Mapping):
        value = encode(value)
    elif not isinstance(value, bytes):
        return b"".join(_field(number, item) for item in value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def encode(fields: Fields) -> bytes:
    """The message; a list is a repeated field, a mapping a nested message."""
    return b"".join(_field(number, value) for number, value in fields.items())


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return number, at


def decode(data: bytes) -> Decoded:
    """Field number → its values in order; nested messages and strings stay bytes."""
    found: Decoded = {}
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        number, kind = key >> 3, key & 7
        value: int | bytes
        if kind == 0:
            value, at = _read_varint(data, at)
        elif kind == 2:
            length, at = _read_varint(data, at)
            value, at = data[at : at + length], at + length
        else:
            length = {1: 8, 5: 4}[kind]
            value, at = data[at : at + length], at + length
        found.setdefault(number, []).append(value)
    return found


def text(message: Decoded, number: int) -> str:
    """A string field, "" when it is not there."""
    values = message.get(number, [b""])
    assert isinstance(values[-1], bytes)
    return values[-1].decode()


def texts(message: Decoded, number: int) -> list[str]:
    """A repeated string field."""
    return [value.decode() for value in message.get(number, []) if isinstance(value, bytes)]


def nested(message: Decoded, number: int) -> Decoded | None:
    """A message field, None when it is not there."""
    values = message.get(number)
    if not values:
        return None
    assert isinstance(values[-1], bytes)
    return decode(values[-1])
