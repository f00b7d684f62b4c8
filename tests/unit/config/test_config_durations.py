"""Durations as Go's time.ParseDuration reads them."""

from __future__ import annotations

import pytest

from shimcore.config.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("0s", 0.0),
        ("15m", 900.0),
        ("15m0s", 900.0),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        (".5s", 0.5),
        ("1.s", 1.0),
        ("300ms", 0.3),
        ("1us", 1e-6),
        ("1\u00b5s", 1e-6),
        ("1\u03bcs", 1e-6),
        ("10ns", 1e-8),
        ("-5s", -5.0),
        ("+5s", 5.0),
        ("30m1h", 5400.0),
    ],
)
def test_reads_what_go_reads(text: str, seconds: float) -> None:
    """A duration is a sign and numbers with units, in any order."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "numbers with units"),
        ("-", "numbers with units"),
        ("s", "numbers with units"),
        (".s", "numbers with units"),
        ("15", "for example 15s"),
        ("1d", "numbers with units"),
        ("1h ", "numbers with units"),
        ("1h30", "numbers with units"),
        ("\u0661s", "numbers with units"),
        ("300000000h", "292 years"),
        ("9" * 30 + "s", "292 years"),
    ],
)
def test_refuses_what_go_refuses(text: str, reason: str) -> None:
    """Anything else is a ValueError that says what is expected."""
    with pytest.raises(ValueError, match=reason):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (900, "15m"),
        (5400, "1h30m"),
        (0.3, "300ms"),
        (3661.5, "1h1m1s500ms"),
        (-1, "-1s"),
    ],
)
def test_prints_the_short_form(seconds: float, text: str) -> None:
    """Printing uses each unit once and leaves out those that are zero."""
    assert format_duration(seconds) == text
    assert parse_duration(text) == seconds
