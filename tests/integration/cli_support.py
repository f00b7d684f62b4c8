"""Runs the real command as operators do: in a pipe, or on a terminal of some width."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

USER, PASSWORD = "admin", "s3cret-Passw0rd-of-the-hub"
USERS = {USER: PASSWORD}
AUTH = f"{USER}:{PASSWORD}"

COMMAND = [sys.executable, "-m", "cli"]
TIMEOUT_S = 30
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Ran:
    """What a run came to; on a terminal everything is in `out`."""

    status: int
    out: str
    err: str

    @property
    def error_lines(self) -> list[str]:
        return self.err.splitlines()

    @property
    def plain(self) -> str:
        """What it wrote, without colours and cursor movements."""
        return _ESCAPE.sub("", self.out).replace("\r\n", "\n")


def write_config(folder: Path, **values: Any) -> str:
    """The path of a configuration with these keys."""
    path = folder / "shim.yaml"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(values))
    return str(path)


async def run(*arguments: str, environment: Mapping[str, str] | None = None) -> Ran:
    """One run with its output in pipes."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=_environment(environment),
    )
    out, err = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
    assert process.returncode is not None
    ran = Ran(process.returncode, out.decode(), err.decode())
    check(ran)
    assert "\x1b" not in ran.out + ran.err, "escape codes in a pipe"
    return ran


@asynccontextmanager
async def begun(*arguments: str, **settings: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    """A run with its output in pipes, killed if it has not ended at the end."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        **settings,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def run_on_terminal(columns: int, *arguments: str) -> Ran:
    """One run on a terminal of that width."""
    ran = await asyncio.to_thread(_run_on_terminal, columns, arguments)
    check(ran)
    return ran


def check(ran: Ran) -> None:
    """Hold of any run: no traceback, no secret."""
    text = ran.out + ran.err
    assert "Traceback" not in text, text
    assert "unexpected error" not in text, text
    assert PASSWORD not in text, text


def _environment(more: Mapping[str, str] | None) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in {"COLUMNS", "NO_COLOR", "IMAGE_CRI_SHIM_CONFIG"}
    }
    return kept | {"TERM": "xterm-256color"} | dict(more or {})


def _run_on_terminal(columns: int, arguments: tuple[str, ...]) -> Ran:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    with subprocess.Popen(
        [*COMMAND, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=_environment(None)
    ) as process:
        os.close(theirs)
        out = b"".join(_read(ours))
        status = process.wait(TIMEOUT_S)
    os.close(ours)
    return Ran(status, out.decode(), "")


def _read(descriptor: int) -> list[bytes]:
    """Everything until the other side is closed, which Linux says with EIO."""
    parts: list[bytes] = []
    while True:
        try:
            part = os.read(descriptor, 65536)
        except OSError:
            return parts
        if not part:
            return parts
        parts.append(part)
