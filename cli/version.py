"""`version`: which version this is, and what it runs on."""

from __future__ import annotations

import platform

from cli import render
from cli.options import Output, OutputOption
from cli.render import Cell, Facts
from shimcore import __version__


def version(output: OutputOption = Output.TABLE) -> None:
    """Print the version, and what the command runs on."""
    value = {
        "version": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system().lower()}/{platform.machine()}",
    }
    pairs = tuple((name, Cell(text)) for name, text in value.items() if name != "version")
    render.show(output, value, lambda: [Facts(f"image-cri-shim {__version__}", pairs)])
