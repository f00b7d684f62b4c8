"""Files in stateDir: whole, and alone, whoever is killed or writes at the same time."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shimcore.config.state import StateError, read_state, write_state

KILLED = """
import os, signal, sys
from shimcore.config.state import write_state
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
write_state(sys.argv[1], "last-good.json", b"pa55", "it")
"""


def test_a_process_that_is_killed_leaves_nothing_for_long(tmp_path: Path) -> None:
    """What it had written of the new content goes with the next write, of another file, too."""
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
        assert done.returncode == -9
        (left,) = os.listdir(tmp_path)
        assert left.startswith(".last-good.json.")
    others = [".app.log.1", ".mine", ".viminfo.20250101"]
    for name in others:
        (tmp_path / name).touch()
    (tmp_path / ".kubernetes.json.2").mkdir()
    write_state(str(tmp_path), "kubernetes.json", b"{}", "it")
    assert sorted(os.listdir(tmp_path)) == sorted(
        [*others, ".kubernetes.json.2", "kubernetes.json"]
    )


def test_several_that_write_at_once(tmp_path: Path) -> None:
    """One after the other, each the whole of it; none fails, and nothing else is left."""
    contents = [bytes([65 + number]) * 100_000 for number in range(8)]
    with ThreadPoolExecutor(len(contents)) as threads:
        waiting = [
            threads.submit(write_state, str(tmp_path), "a.json", content, "it")
            for content in contents * 5
        ]
        for each in waiting:
            each.result()
    assert read_state(str(tmp_path), "a.json") in contents
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_folder_that_cannot_be_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On NFS it is written all the same."""

    def flock(descriptor: int, how: int) -> None:
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", flock)
    write_state(str(tmp_path), "a.json", b"{}", "it")
    assert read_state(str(tmp_path), "a.json") == b"{}"


def test_what_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what, where and why; what was there before stays."""
    write_state(str(tmp_path), "a.json", b"before", "it")

    def fsync(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StateError, match=f"^{tmp_path}: it cannot be kept: No space left"):
        write_state(str(tmp_path), "a.json", b"after", "it")
    assert os.listdir(tmp_path) == ["a.json"]
    assert read_state(str(tmp_path), "a.json") == b"before"


def test_a_disk_that_fails_is_the_reason_at_each_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where what the try before had begun could not be taken away."""

    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", broken)
        patched.setattr(os, "unlink", broken)
        for _ in range(2):
            with pytest.raises(StateError, match=r"it cannot be kept: Input/output error$"):
                write_state(str(tmp_path), "a.json", b"{}", "it")
    write_state(str(tmp_path), "a.json", b"{}", "it")
    assert os.listdir(tmp_path) == ["a.json"]
