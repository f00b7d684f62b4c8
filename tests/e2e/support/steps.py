"""The steps of a document: what its reader types, and the files that its reader writes."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from .stock_node import StockNode
from .systemd_tree import PROJECT

_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Step:
    """A block of a document, and what stands between it and the block before."""

    said: str
    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """The lines to type; none for a file."""
        return [] if self.language else self.text.splitlines()

    @property
    def file(self) -> str:
        """The path that was named last before the block."""
        return str(re.findall(r"`(/[^`]+)`", self.said)[-1])

    def carry_out(self, node: StockNode) -> str:
        """What its commands printed, each of which has to succeed."""
        if not self.language:
            return "".join(node.sh(line).stdout for line in self.commands)
        mode = re.findall(r"mode (\d+)", self.said)
        place = node.place(self.file)
        before = place.read_text() if re.search(r"\badd\b", self.said, re.IGNORECASE) else ""
        kept = place.stat().st_mode & 0o777 if before else 0o644
        node.add(self.file, before + self.text, int(mode[-1], 8) if mode else kept)
        return ""


def steps(document: str, heading: str) -> list[Step]:
    """Those of the section with this heading."""
    return list(_blocks(section(document, heading)))


def section(document: str, heading: str) -> str:
    """What stands below a heading, as far as the next one that is not below that."""
    text = (PROJECT / document).read_text()
    found = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    assert found, f"{document} has no section {heading!r}"
    rest = text[found.end() :]
    end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def _blocks(text: str) -> Iterator[Step]:
    at = 0
    for found in _FENCE.finditer(text):
        yield Step(text[at : found.start()], found[1], textwrap.dedent(found[2]))
        at = found.end()
