"""Waits for an answer: a spinner on a terminal, and the log as one-line remarks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from cli.exits import say

if TYPE_CHECKING:
    from shimcore.config import Registry
    from shimcore.registry.client import RegistryClient

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


def asking(count: int) -> str:
    """What is waited for while so many registries are asked."""
    return "asking 1 registry" if count == 1 else f"asking {count} registries"


def _spinner(text: str) -> contextlib.AbstractContextManager[object]:
    if not text or not sys.stderr.isatty():
        return contextlib.nullcontext()
    from rich.console import Console  # noqa: PLC0415 - slow to import
    from rich.text import Text  # noqa: PLC0415

    return Console(stderr=True).status(Text(text))


@contextlib.asynccontextmanager
async def registry_client(
    registries: Sequence[Registry], probe_timeout_s: float
) -> AsyncIterator[RegistryClient]:
    """A client of registries, which it closes at the end.

    What the first question would load is loaded: its time is to be the registry's own.
    """
    import anyio.lowlevel  # noqa: PLC0415 - with httpcore what httpx talks through
    import httpcore  # noqa: F401, PLC0415

    import shimcore.registry.endpoint  # noqa: F401, PLC0415
    from shimcore.registry.client import RegistryClient  # noqa: PLC0415

    await anyio.lowlevel.checkpoint()  # loads its asyncio side
    made = RegistryClient(registries, probe_timeout_s=probe_timeout_s)
    async with contextlib.aclosing(made) as client:
        yield client
