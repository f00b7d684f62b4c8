"""Waits for an answer: a spinner on a terminal, and the log as one-line remarks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

from cli.exits import say

T = TypeVar("T")


class _Remarks(logging.Handler):
    """What the project logs at WARNING and above, a line each, without tracebacks."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say it; of an exception, its type and text."""
        error = record.exc_info[1] if record.exc_info else None
        why = f": {type(error).__name__}: {error}" if error else ""
        say(record.getMessage() + why)


def answer_of(question: Coroutine[Any, Any, T], waiting_for: str = "") -> T:
    """The result of `question`, awaited; `waiting_for` is what a terminal shows meanwhile."""
    root = logging.getLogger("shimcore")
    root.propagate = False
    root.handlers[:] = [_Remarks(logging.WARNING)]
    with _spinner(waiting_for):
        return asyncio.run(question)


def _spinner(text: str) -> contextlib.AbstractContextManager[object]:
    if not text or not sys.stderr.isatty():
        return contextlib.nullcontext()
    from rich.console import Console  # noqa: PLC0415 - slow to import
    from rich.text import Text  # noqa: PLC0415

    return Console(stderr=True).status(Text(text))


async def load_http() -> None:
    """Load what the first question to a registry would: its time is to be the registry's own."""
    import anyio.lowlevel  # noqa: PLC0415 - with httpcore what httpx talks through
    import httpcore  # noqa: F401, PLC0415

    import shimcore.registry.endpoint  # noqa: F401, PLC0415

    await anyio.lowlevel.checkpoint()  # loads its asyncio side
