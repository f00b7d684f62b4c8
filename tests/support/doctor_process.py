"""The real `doctor` in a process of its own, asked again and again: it starts once.

In the process of the stand-ins it cannot run: grpc.aio has one event loop in a process. Its node's
files are those below the folder that it is told, its clock may be behind.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import select
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from typer.main import get_command
from typer.testing import CliRunner

import shimcore.doctor
from cli.app import app
from shimcore.doctor import Node
from shimcore.systemd.root import Root

ANSWER_S = 60.0


def doctor(words: list[str], folder: Path, behind_s: float = 0) -> str:
    """What the command prints; an assertion says with what else it ended."""
    process = _process()
    assert process.stdin
    assert process.stdout
    asked = {"words": words, "folder": str(folder), "behind": behind_s, "env": dict(os.environ)}
    process.stdin.write(json.dumps(asked) + "\n")
    process.stdin.flush()
    ready, _, _ = select.select([process.stdout], [], [], ANSWER_S)
    assert ready, f"doctor: no answer within {ANSWER_S:g} s"
    answer = json.loads(process.stdout.readline())
    assert not answer["error"], answer["error"]
    return str(answer["said"])


@functools.cache
def _process() -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    atexit.register(_end, process)
    return process


def _end(process: subprocess.Popen[str]) -> None:
    with process:
        process.kill()


def main() -> None:
    """Answer until nobody asks."""
    command = get_command(app)
    # The same each time: it is made once.
    with mock.patch("typer.testing._get_command", return_value=command):
        for line in sys.stdin:
            print(json.dumps(_answer(json.loads(line))), flush=True)


def _answer(asked: dict[str, Any]) -> dict[str, str]:
    real_time, real_node = time.time, shimcore.doctor.node_of
    folder = Path(asked["folder"])

    def now_s() -> float:
        return real_time() - float(asked["behind"])

    async def node_of(file: str) -> Node:
        return replace(await real_node(file), root=Root(folder / "root"), proc=folder / "proc")

    with (
        mock.patch("time.time", now_s),
        mock.patch("shimcore.doctor.node_of", node_of),
        mock.patch.dict(os.environ, asked["env"], clear=True),
    ):
        result = CliRunner().invoke(app, asked["words"], standalone_mode=False)
    broken = result.exception is not None and not isinstance(result.exception, SystemExit)
    return {"said": result.stdout, "error": repr(result.exception) if broken else ""}


if __name__ == "__main__":
    main()
