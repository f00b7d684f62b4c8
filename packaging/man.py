"""Manual pages for the packages: man.py FOLDER writes image-cri-shim.1 and image-cri-shim.yaml.5.

Made from the command line and from the table of the configuration's keys.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

from cli.app import app
from cli.examples import EXAMPLES
from cli.help_pages import of_kind, options
from shimcore import __version__
from shimcore.config.keys import TOP_KEYS, Key, Kind

_STATUSES = (
    ("0", "done, or all is well"),
    ("1", "something failed, or is not well"),
    ("2", "the command line is not understood"),
    ("3", "no registry has the image; or the shim does not run"),
    ("78", "the configuration cannot be used"),
    ("130", "interrupted"),
)


def command_page() -> str:
    """image-cri-shim(1)."""
    root: Any = typer.main.get_command(app)
    context = root.make_context("image-cri-shim", [], resilient_parsing=True)
    parts = [
        _head("IMAGE-CRI-SHIM", 1, "image proxy between kubelet and the container runtime"),
        ".SH SYNOPSIS\n.B image-cri-shim\n[OPTIONS] COMMAND [ARGS]...",
        f".SH DESCRIPTION\n{_paragraphs(root.help or '')}",
        f".SH OPTIONS\n{_list(options(root, context))}",
        ".SH COMMANDS",
        *_commands(root, context),
        f".SH EXIT STATUS\n{_list(_STATUSES)}",
        ".SH FILES\n" + _list([("/etc/image-cri-shim.yaml", "the configuration")]),
        ".SH ENVIRONMENT\n" + _list([("IMAGE_CRI_SHIM_CONFIG", "the configuration's path")]),
        ".SH SEE ALSO\n.BR image-cri-shim.yaml (5)",
    ]
    return "\n".join(parts) + "\n"


def file_page() -> str:
    """image-cri-shim.yaml(5)."""
    parts = [
        _head("IMAGE-CRI-SHIM.YAML", 5, "configuration of image-cri-shim", "image-cri-shim.yaml"),
        ".SH DESCRIPTION\n"
        + _paragraphs(
            "A YAML file; only address is required. Durations are 300ms, 15m or 1h30m. A key that "
            "is not known is an error. Keep the file at mode 0600: it may hold passwords."
        ),
        ".SH KEYS",
        *_keys(TOP_KEYS),
        ".SH SEE ALSO\n.BR image-cri-shim (1)",
    ]
    return "\n".join(parts) + "\n"


def _head(title: str, section: int, does: str, name: str = "image-cri-shim") -> str:
    return (
        f'.TH {title} {section} "" "image-cri-shim {__version__}"\n'
        f".SH NAME\n{_text(name)} \\- {_text(does)}"
    )


def _commands(group: Any, context: Any) -> Iterator[str]:
    for name, command in group.commands.items():
        if command.hidden:
            continue
        below = command.context_class(command, info_name=name, parent=context)
        path = below.command_path.partition(" ")[2]
        words = [param.metavar or str(param.name) for param in of_kind(command, below, "argument")]
        yield f".SS {_text(' '.join([path, *words]))}\n{_paragraphs(command.help or '')}"
        if hasattr(command, "commands"):
            yield from _commands(command, below)
            continue
        yield _list(options(command, below))
        lines = "\n".join(_text(line) for line in EXAMPLES.get(path, ()))
        if lines:
            yield f".P\nExamples:\n.P\n.RS\n.nf\n{lines}\n.fi\n.RE"


def _keys(keys: Sequence[Key], parent: str = "") -> Iterator[str]:
    for key in keys:
        if key.kind is Kind.OLD:
            continue
        held = key.absent or (f"default {key.default}" if key.default else "")
        default = f" ({held})" if held else ""
        yield _list([(parent + key.name, key.meaning + default)])
        inside = f"{parent}{key.name}[]." if key.kind is Kind.MAPPINGS else f"{parent}{key.name}."
        yield from _keys(key.keys, inside)


def _list(rows: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f".TP\n.B {_text(left)}\n{_text(right)}" for left, right in rows)


def _paragraphs(text: str) -> str:
    return "\n.P\n".join(_text(" ".join(part.split())) for part in text.split("\n\n"))


def _text(text: str) -> str:
    """As roff prints it: no character of it is a request (groff_char(7))."""
    text = text.replace("\\", r"\e").replace("-", r"\-").replace("…", "...")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "image-cri-shim.1").write_text(command_page(), encoding="utf-8")
    (folder / "image-cri-shim.yaml.5").write_text(file_page(), encoding="utf-8")
