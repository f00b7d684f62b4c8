"""A command that is asked: what it prints, and how it is ended."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from shimcore.childprocess import output_of


async def asked(script: str, *, timeout_s: float = 10) -> tuple[bytes, int | None]:
    return await output_of(["/bin/sh", "-c", script], limit_bytes=1000, timeout_s=timeout_s)


async def test_output_and_status() -> None:
    """Both are told, of one that fails as well."""
    assert await asked("echo yes; exit 3") == (b"yes\n", 3)


async def test_its_errors_are_among_it_where_they_are_wanted() -> None:
    """Else they are dropped."""
    words = ["/bin/sh", "-c", "echo out; echo err >&2"]
    assert await output_of(words, limit_bytes=99, timeout_s=9) == (b"out\n", 0)
    both = await output_of(words, limit_bytes=99, timeout_s=9, with_errors=True)
    assert both == (b"out\nerr\n", 0)


async def test_one_that_floods_is_ended() -> None:
    """A little more than the limit is read, and it has no status."""
    output, status = await asked("yes")
    assert status is None
    assert 1000 < len(output) <= 1000 + 65_536


async def test_one_that_hangs_is_ended_with_what_it_has_started(tmp_path: Path) -> None:
    """Nobody is left who holds its pipe."""
    late = tmp_path / "late"
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        await asked(f"(sleep 3; touch {late}) & wait", timeout_s=0.5)
    await asyncio.sleep(max(0.0, 4 - (time.monotonic() - begun)))
    assert not late.exists()


async def test_one_that_is_not_there() -> None:
    """It is told as what it is."""
    with pytest.raises(FileNotFoundError):
        await output_of(["/no/such"], limit_bytes=1, timeout_s=1)
