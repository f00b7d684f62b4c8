"""The documents: their commands, links and paths are those of the project."""

from __future__ import annotations

import ast
import re
import shlex
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
import typer

from cli.app import app

PROJECT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "contrib/**/*.md", "benchmarks/*.md")
    for path in PROJECT.glob(pattern)
)
COMMAND: Any = typer.main.get_command(app)
ARCHITECTURE = PROJECT / "docs" / "architecture.md"

_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
_SHOWN = re.compile(r"^ *(?:\$ |# )?(?:[\w./]*/)?(image-cri-shim(?: .*)?)$", re.MULTILINE)
_BEHIND = re.compile(r"\s+(?:#|[|>]|&&|2>).*")
# In prose: a command of the shim's in code, without a word that stands for another.
_INLINE = re.compile(r"`(image-cri-shim [a-z][^`|…]*)`")
_STANDS_FOR = re.compile(r"\b[A-Z]{2,}\b")
_SHARED = {
    "cache",
    "childprocess",
    "errors",
    "heldcall",
    "jsontext",
    "lines",
    "lookup",
    "singleflight",
    "threads",
    "tls",
    "unixsocket",
    "worker",
    "yamlreading",
}


def console(text: str) -> str:
    """The blocks without a language, or of a shell, of a document."""
    blocks = (match for match in _FENCE.finditer(text) if match[1] in {"", "console", "sh"})
    return "\n".join(match[2] for match in blocks)


def commands() -> list[tuple[str, str]]:
    """Each command line of the shim's that a document shows, with the document's name."""
    found = []
    for path in DOCUMENTS:
        text = path.read_text()
        typed = [match[1] for match in _SHOWN.finditer(console(text))]
        prose = [" ".join(match[1].split()) for match in _INLINE.finditer(_FENCE.sub("", text))]
        told = [line for line in prose if not _STANDS_FOR.search(line)]
        found += [(path.name, _BEHIND.sub("", line).strip()) for line in (*typed, *told)]
    return sorted(set(found))


def plain(words: list[str]) -> bool:
    """Whether it names a command, and is no line of output that begins alike."""
    return not words or words[0].startswith("-") or words[0] in COMMAND.commands


@pytest.mark.parametrize(("document", "line"), commands())
def test_commands_are_understood(document: str, line: str) -> None:
    """The command exists and has these options; it is not carried out."""
    words = shlex.split(line)[1:]
    assert plain(words), f"{document} shows {line!r}"
    command: Any = COMMAND
    parent: Any = None
    while hasattr(command, "commands"):
        parent = command.make_context("image-cri-shim", list(words), parent=parent)
        words = [*parent._protected_args, *parent.args]
        if not words:
            return
        command = command.commands[words.pop(0)]
    command.make_context("image-cri-shim", list(words), parent=parent)


@cache
def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as the forges make them."""
    text = _FENCE.sub("", path.read_text())
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in kept}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_links_lead_somewhere(path: Path) -> None:
    """Each relative link is a file of the project, with that heading if it names one."""
    broken = []
    for match in _LINK.finditer(_FENCE.sub("", path.read_text())):
        target = match[1] or match[2]
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append("#".join([str(file.relative_to(PROJECT)), *filter(None, [anchor])]))
    assert broken == []


@pytest.mark.parametrize("name", ["architecture.md", "relay.md"])
def test_paths_exist(name: str) -> None:
    """Each path in code is a file or folder, and each function named beside one is in it."""
    text = (PROJECT / "docs" / name).read_text()
    paths = set(re.findall(r"`((?:cli|shimcore|tests|protos|docs)/[\w./-]*)`", text))
    assert paths
    assert sorted(path for path in paths if not (PROJECT / path).exists()) == []
    named = re.findall(r"`(\w+)`(?: \([\w ']*\))? in `([\w./]+\.py)`", text)
    assert [pair for pair in named if pair[0] not in (PROJECT / pair[1]).read_text()] == []


def test_make_has_what_is_named() -> None:
    """Each target that a document tells to make is one of the Makefile's."""
    targets = set(re.findall(r"^([\w-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    told = set()
    for path in DOCUMENTS:
        text = path.read_text()
        told |= set(re.findall(r"`make ([a-z][\w-]*)", text))
        told |= set(re.findall(r"^make ([a-z][\w-]*)", console(text), re.MULTILINE))
    assert told - targets == set()


def rooms() -> dict[str, set[str]]:
    """What each room of shimcore may import, by the architecture's table."""
    rows = re.findall(r"^\| `shimcore/(\w+)/` \|.*\| (.*) \|$", ARCHITECTURE.read_text(), re.M)
    return {
        room: set(re.findall(r"\w+", re.sub(r"\(.*?\)", "", may))) - {"nothing"}
        for room, may in rows
    }


def test_every_room_is_drawn() -> None:
    """A folder of shimcore is a row of the table."""
    folders = {path.parent.name for path in (PROJECT / "shimcore").glob("*/__init__.py")}
    assert set(rooms()) == folders


def test_rooms_import_what_the_table_says() -> None:
    """No room reaches into one that is not in its row."""
    broken = []
    for room, may in rooms().items():
        for path in (PROJECT / "shimcore" / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("shimcore."):
                    other = str(node.module).split(".")[1]
                    if other not in {room, *may, *_SHARED}:
                        broken.append(f"{path.relative_to(PROJECT)} → {other}")
    assert broken == []


def imports(path: Path) -> set[str]:
    """The project's modules that a module imports when it runs, now or later."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    found = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    names = {f"{node.module}.{alias.name}" for node in found for alias in node.names}
    return names | {str(node.module) for node in found}


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Neither at the top nor inside a function; what is for types alone does not count."""
    paths = [path for room in ("cli", "shimcore") for path in (PROJECT / room).rglob("*.py")]
    named = {
        ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in paths
    }
    graph = {name: (imports(path) & named.keys()) - {name} for name, path in named.items()}
    packages = {name for name, path in named.items() if path.name == "__init__.py"}
    graph = {name: others - packages for name, others in graph.items()}
    assert len(list(TopologicalSorter(graph).static_order())) >= len(graph)
