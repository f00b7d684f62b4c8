"""The few fields of an X.509 certificate that an operator asks about (RFC 5280 §4.1).

`ssl` decodes a peer's certificate only when it was verified; a certificate that failed is the one
whose facts are wanted, so its DER bytes are read here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

_INTEGER, _OID, _SEQUENCE, _SET, _VERSION = 0x02, 0x06, 0x30, 0x31, 0xA0
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_WIDE_STRINGS = {0x1E: "utf-16-be", 0x1C: "utf-32-be"}  # BMPString, UniversalString
# X.520 attribute types, by the content bytes of their object identifiers (2.5.4.n).
_ATTRIBUTES = {b"\x55\x04\x03": "CN", b"\x55\x04\x0a": "O", b"\x55\x04\x0b": "OU"}


@dataclass(frozen=True, slots=True)
class Certificate:
    """Names as `CN=…, O=…` (empty when there is none); times in UTC."""

    issuer: str
    subject: str
    not_before: datetime
    not_after: datetime

    def begins_in_days(self, now: datetime) -> int:
        """Return days until it is valid, a begun one counted; 0 once it is."""
        return max(0, -((now - self.not_before).days))

    def days_left(self, now: datetime) -> int:
        """Return whole days until it expires; negative once it has."""
        return (self.not_after - now).days


def parse_certificate(der: bytes) -> Certificate:
    """Read a DER certificate. Raises ValueError when it is not one."""
    outer = _one(der, _SEQUENCE)
    body = _one(outer, _SEQUENCE)
    fields = [field for field in _elements(body) if field[0] != _VERSION]
    # serialNumber, signature, issuer, validity, subject, …
    if len(fields) < 5 or fields[0][0] != _INTEGER:
        raise ValueError("not a certificate")
    times = list(_elements(fields[3][1]))
    if len(times) != 2:
        raise ValueError("a validity without two times")
    return Certificate(
        issuer=_name(fields[2][1]),
        subject=_name(fields[4][1]),
        not_before=_time(*times[0]),
        not_after=_time(*times[1]),
    )


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of each DER element in `data` (X.690 §8.1)."""
    at = 0
    while at < len(data):
        if len(data) - at < 2:
            raise ValueError("a DER element that ends early")
        tag, length, start = data[at], data[at + 1], at + 2
        if length & 0x80:
            count = length & 0x7F
            length = int.from_bytes(data[start : start + count], "big")
            start += count
        at = start + length
        if at > len(data):
            raise ValueError("a DER element that ends early")
        yield tag, data[start:at]


def _one(data: bytes, tag: int) -> bytes:
    """Return the content of the first element, which must have that tag."""
    found, content = next(_elements(data), (None, b""))
    if found != tag:
        raise ValueError("not a certificate")
    return content


def _name(content: bytes) -> str:
    """`Name`: a sequence of sets of (type, value)."""
    parts = []
    for _, relative in _elements(content):
        for _, attribute in _elements(relative):
            pair = list(_elements(attribute))
            if len(pair) == 2 and pair[0][1] in _ATTRIBUTES:
                parts.append(f"{_ATTRIBUTES[pair[0][1]]}={_text(*pair[1])}")
    return ", ".join(parts)


def _text(tag: int, content: bytes) -> str:
    """Decode a directory string; what cannot be printed is replaced."""
    text = content.decode(_WIDE_STRINGS.get(tag, "utf-8"), "replace")
    return "".join(character if character.isprintable() else "�" for character in text)


def _time(tag: int, content: bytes) -> datetime:
    """`UTCTime` (two-digit years: 1950 to 2049) or `GeneralizedTime` (RFC 5280 §4.1.2.5)."""
    text = content.decode("ascii")
    if tag == _UTC_TIME:
        century = "19" if text[:2] >= "50" else "20"
        text = century + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("not a time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
