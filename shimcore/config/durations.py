"""Durations as Go writes them (`time.ParseDuration`): `15m`, `1h30m`, `300ms`, `1.5h`, `0`."""

from __future__ import annotations

import re

_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "\u00b5s": 1_000,  # the micro sign
    "\u03bcs": 1_000,  # the Greek letter
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60 * 1_000_000_000,
    "h": 3600 * 1_000_000_000,
}
_LIMIT_NS = 2**63 - 1
"""Go keeps a duration in an int64 of nanoseconds, about 292 years."""

_TERM = re.compile(r"([0-9]*)(?:\.([0-9]*))?([a-z\u00b5\u03bc]+)")


def parse_duration(text: str) -> float:
    """Seconds; negative for a leading minus. Raises ValueError for what Go would refuse."""
    sign = -1 if text.startswith("-") else 1
    body = text[1:] if text[:1] in {"-", "+"} else text
    if body == "0":
        return 0.0
    if body.isascii() and body.isdigit():
        raise ValueError(f"a duration needs a unit, for example {body[:20]}s or {body[:20]}m")
    total, position = 0, 0
    while not body or position < len(body):
        term = _TERM.match(body, position)
        if not term or not (term[1] or term[2]) or term[3] not in _NANOSECONDS:
            raise ValueError("a duration is numbers with units, for example 15m, 1h30m or 300ms")
        total += _term_ns(term[1], term[2] or "", _NANOSECONDS[term[3]])
        position = term.end()
    if total > _LIMIT_NS:
        raise ValueError("a duration is at most 292 years")
    return sign * total / 1_000_000_000


def _term_ns(whole: str, fraction: str, unit_ns: int) -> int:
    if len(whole) > 19:  # an int64 has at most 19 digits
        return _LIMIT_NS + 1
    fraction = fraction[:18]  # digits below a nanosecond of the largest unit
    part = int(fraction) * unit_ns // 10 ** len(fraction) if fraction else 0
    return int(whole or 0) * unit_ns + part


def format_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` reads back as the same: `15m`, `1h30m`, `300ms`."""
    nanoseconds = round(abs(seconds) * 1_000_000_000)
    if nanoseconds == 0:
        return "0s"
    parts = ["-"] if seconds < 0 else []
    for unit in ("h", "m", "s", "ms", "us", "ns"):
        count, nanoseconds = divmod(nanoseconds, _NANOSECONDS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)
