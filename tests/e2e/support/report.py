"""What the run prints at its end: the table of faults, and single lines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: what the caller saw, what the runtime was asked for in the end."""

    fault: str
    seconds: float
    asked_for: str
    caller_saw: str


FAULTS: list[Fault] = []
NOTES: list[str] = []


def write_faults(path: Path) -> str:
    """The rows so far as a Markdown table, then the notes; also written to `path`."""
    head = "| fault | seconds | runtime was asked for | caller saw |\n|---|---|---|---|\n"
    rows = [
        f"| {row.fault} | {row.seconds:.2f} | {row.asked_for} | {row.caller_saw} |"
        for row in FAULTS
    ]
    table = head + "\n".join(rows) + "\n\n" if rows else ""
    table += "\n".join(NOTES) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(table)
    return table
