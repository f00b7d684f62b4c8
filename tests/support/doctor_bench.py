"""A node with a real shim before a hub and a runtime, for the real `doctor`.

Its own folder stands for the files of the machine, and a script for `systemctl`: what is typed
there reloads or restarts the shim. `date` and `kubectl` are noted, and change nothing themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from shimcore.client import admin
from shimcore.systemd.root import Root
from tests.support.doctor import SHIM, WIRED
from tests.support.doctor_process import doctor
from tests.support.mending import Reader
from tests.support.serving import ServeProcess

COMMANDS = ("systemctl", "date", "kubectl", "image-cri-shim")
SETTLED_S = 60.0


class Bench:
    """One shim; `folder` has all that it is made of."""

    def __init__(self, folder: Path, shim: ServeProcess) -> None:
        self.folder = folder
        self.shim = shim
        self.root = Root(folder / "root")
        self.noted: list[str] = []
        self.behind_s = 0.0
        """How far the clock is behind that doctor reads."""
        self.last: list[dict[str, str]] = []

        def restart() -> None:
            shim.stop()
            shim.start()

        self.acts: dict[str, Callable[[], object]] = {
            "systemctl reload image-cri-shim": lambda: shim.signal(signal.SIGHUP),
            "systemctl restart image-cri-shim": restart,
        }
        """What comes of what is typed."""
        self._loop = asyncio.get_running_loop()
        (folder / "proc").mkdir()
        for path, text in WIRED.items():
            self.put(path, text.replace(SHIM, shim.socket))
        self._put_commands()

    def put(self, path: str, text: str) -> None:
        """A file of the node."""
        place = self.root.directory / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def configure(self, **keys: object) -> None:
        """The configuration with these keys changed is in force, or will be in a moment."""
        self.shim.write_config(**keys)
        self.type("systemctl reload image-cri-shim")

    def awaited(self, act: Callable[[], Awaitable[object]]) -> Callable[[], object]:
        """For other threads: carries it out in the loop of the node's parts."""

        async def carried_out() -> None:
            await act()

        return lambda: asyncio.run_coroutine_threadsafe(carried_out(), self._loop).result(10)

    def look(self, pull: str = "", *, text: bool = True) -> list[dict[str, str]]:
        """What does not hold, in the JSON; the text says the same."""
        words = ["-f", str(self.shim.file), "doctor", *(["--pull", pull] if pull else [])]
        found = json.loads(self._run([*words, "-o", "json"]))
        self.last = [each for each in found if each["result"] != "PASS"]
        said = self._run(words) if text else ""
        for one in self.last if text else ():
            assert f"{one['result']}  {one['check']}: " in said
            assert all(line in said for line in one["mend"].splitlines()), one
        return self.last

    async def quiet(self, pull: str = "") -> None:
        """Nothing is amiss, at once or in a moment: a reload is not waited for by who gives it."""
        until = time.monotonic() + SETTLED_S
        while amiss := await asyncio.to_thread(self.look, pull, text=False):
            assert time.monotonic() < until, amiss
            await asyncio.sleep(0.1)

    async def told(self, of_cluster: Callable[[dict[str, Any]], bool]) -> None:
        """Return when this holds of what the shim says of the cluster's part."""
        endpoint = admin.endpoint_of(str(self.shim.file))

        def holds() -> bool:
            return of_cluster(admin.status(endpoint).facts["config"]["kubernetes"])

        until = time.monotonic() + SETTLED_S
        while not await asyncio.to_thread(holds):
            assert time.monotonic() < until
            await asyncio.sleep(0.1)

    async def mended(
        self,
        check: str,
        *,
        pull: str = "",
        knows: Mapping[str, str] | None = None,
        by_hand: Mapping[str, Callable[[], object]] | None = None,
        shell: Callable[[str], object] | None = None,
    ) -> list[str]:
        """Follow the first mend of this check; nothing is amiss then. What was typed."""
        amiss = await asyncio.to_thread(self.look, pull)
        finding = next(one for one in amiss if one["check"].startswith(check))
        reader = Reader(shell or self.type, Path, knows or {}, by_hand or {})
        await asyncio.to_thread(reader.follow, finding)
        await self.quiet(pull)
        return reader.typed

    def type(self, line: str) -> None:
        """A line, in a shell that has the commands of the node."""
        log = self.folder / "commands"
        log.write_text("")
        environ = {**os.environ, "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"}
        subprocess.run(["sh", "-c", line], env=environ, check=True, timeout=30)
        for typed in log.read_text().splitlines():
            self.noted.append(typed)
            for command, act in self.acts.items():
                if typed.startswith(command):
                    act()

    def _put_commands(self) -> None:
        bin_folder = self.folder / "bin"
        bin_folder.mkdir()
        for name in COMMANDS:
            script = f'#!/bin/sh\necho "{name} $*" >>{self.folder / "commands"}\n'
            if name == "image-cri-shim":  # what only reads is typed for real
                script += f'case "$1" in config|doctor) exec {sys.executable} -m cli "$@";; esac\n'
            (bin_folder / name).write_text(script)
            (bin_folder / name).chmod(0o755)

    def _run(self, words: list[str]) -> str:
        return doctor(words, self.folder, self.behind_s)


@contextlib.asynccontextmanager
async def benched(shim: ServeProcess) -> AsyncIterator[Bench]:
    """Its node, once it serves; it ends with that."""
    try:
        await asyncio.to_thread(shim.start)
        yield Bench(shim.folder, shim)
    finally:
        shim.kill()
