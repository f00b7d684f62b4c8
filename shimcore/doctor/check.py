"""What a check is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from shimcore.doctor.finding import Finding
from shimcore.doctor.node import Node


@dataclass(frozen=True, slots=True)
class Check:
    """A group of findings that are made together."""

    name: str
    look: Callable[[Node], Awaitable[list[Finding]]]
