"""Pulls under way, and how long ago something was, as `status` and `history` show them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cli import render
from cli.render import Cell, Column, Columns

if TYPE_CHECKING:
    from shimcore.client.pull import Step


def ago(time: str) -> str:
    """How long ago a time in the JSON was."""
    return _age((datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds())


PULLS: Columns[dict[str, Any]] = {
    Column("PULLING", below=True): lambda one: Cell(one["image"]),
    Column("FROM"): lambda one: Cell(one["registry"] or "-"),
    Column("SO FAR"): lambda one: Cell(
        render.so_far(one["bytes"], one["total_bytes"], one["layers"], one["total_layers"])
    ),
    Column("FOR"): lambda one: Cell(ago(one["started_at"])),
}
"""Pulls under way, as they are in the JSON."""


def _age(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def pulled_line(step: Step) -> str:
    """A line on an image that was pulled."""
    source = f" from {step.registry}" if step.registry else ""
    if step.total_bytes:
        source += f", {render.amount(step.total_bytes, None)},"
    time = render.duration(step.elapsed_s * 1000)
    return f"pulled {render.printable(step.image)}{source} in {time}"
