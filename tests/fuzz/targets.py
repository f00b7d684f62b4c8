"""All harnesses by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from tests.fuzz import parts
from tests.fuzz.answers import answers
from tests.fuzz.core import core

Harness = Callable[[bytes], None]

TARGETS: dict[str, Harness] = {
    "core": core,
    "headers": parts.headers,
    "messages": parts.messages,
    "unavailable": parts.unavailable,
    "requests": parts.requests,
    "config": parts.config,
    "reference": parts.reference,
    "challenge": parts.challenge,
    "answers": answers,
}
CORPUS = Path(__file__).parent / "corpus"


def inputs(target: str) -> Iterator[Path]:
    """The committed inputs of one harness; `found-…` are those that once broke something."""
    yield from sorted((CORPUS / target).iterdir())
