"""A picture of a terminal, as SVG: what `image-cri-shim demo` prints there, from a real run.

`python docs/picture.py FILE`; the command line that is run is the one beside this Python.
"""

from __future__ import annotations

import os
import pty
import re
import sys
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS, LINES = 84, 40
COMMAND = ("image-cri-shim", "demo")


def recorded() -> str:
    """What the command wrote to a terminal, colours included."""
    program = str(Path(sys.executable).parent / COMMAND[0])
    pid, terminal = pty.fork()
    if pid == 0:
        wanted = {"COLUMNS": str(COLUMNS), "LINES": str(LINES), "TERM": "xterm-256color"}
        os.execve(program, COMMAND, {**os.environ, **wanted})  # noqa: S606
    written = bytearray()
    try:
        while chunk := os.read(terminal, 65536):
            written += chunk
    except OSError:  # a terminal whose program has ended
        pass
    _, status = os.waitpid(pid, 0)
    if status:
        raise SystemExit(f"{' '.join(COMMAND)} failed:\n{written.decode(errors='replace')}")
    return written.decode()


def picture(text: str) -> str:
    """The SVG of a terminal with the command and its output."""
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True)
    console.print(Text.assemble("$ ", (" ".join(COMMAND), "bold")))
    console.print(Text.from_ansi(text.replace("\r\n", "\n")))
    svg = console.export_svg(title="image-cri-shim", unique_id="demo")
    return re.sub(r" *@font-face \{.*?\}\n", "", svg, flags=re.DOTALL)  # nothing is fetched


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(picture(recorded()), encoding="utf-8")
