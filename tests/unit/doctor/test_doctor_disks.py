"""The disks of stateDir and of the image stores: what keeps a file from being written there."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from shimcore import threads
from shimcore.client import admin
from shimcore.client.admin import endpoint_of
from shimcore.cluster.starting import begin
from shimcore.config import files
from shimcore.doctor import Node, Result, configuration, node, service
from shimcore.systemd.root import Root

STORE = "var/lib/containerd"
ROOM = {
    "f_flag": 0,
    "f_frsize": 4096,
    "f_blocks": 1 << 20,
    "f_bavail": 1 << 19,
    "f_files": 1000,
    "f_favail": 500,
}


async def disks(tmp_path: Path, state: str = "state") -> list[tuple[Result, str, str]]:
    """What is said of them, with the paths below the test's folder."""
    file = tmp_path / "shim.yaml"
    file.touch(0o600)
    file.write_text(f"address: http://hub:5000\nstateDir: {tmp_path / state}\n")
    looked_at = Node(endpoint_of(str(file)), Root(tmp_path), start=begin(str(file)))
    found = [each for each in await configuration.look(looked_at) if each.check == "disk"]
    return [
        (
            each.result,
            each.detail.replace(f"{tmp_path}/", ""),
            each.mend.replace(f"{tmp_path}/", ""),
        )
        for each in found
    ]


@pytest.mark.parametrize(
    ("changes", "result", "detail", "mends"),
    [
        ({}, None, "", ()),
        ({"f_files": 0, "f_favail": 0}, None, "", ()),
        (
            {"f_flag": os.ST_RDONLY, "f_bavail": 0, "f_favail": 0},
            Result.FAIL,
            "is on a file system that is read-only",
            ("mount the disk of state for", f"mount the disk of {STORE} for"),
        ),
        ({"f_favail": 0}, Result.FAIL, "has 0 inodes left", ("(df -i)", "rmi --prune")),
        ({"f_favail": 49}, Result.WARN, "has 49 inodes left", ("(df -i)", "rmi --prune")),
        ({"f_bavail": 1}, Result.FAIL, "has 0 MB left", ("make room", "rmi --prune")),
        ({"f_bavail": 50_000}, Result.WARN, "has 205 MB left", ("make room", "rmi --prune")),
    ],
)
async def test_a_disk_that_takes_no_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, int],
    result: Result | None,
    detail: str,
    mends: tuple[str, ...],
) -> None:
    """stateDir, which is made where it is not there, and a store; each with its mend."""
    (tmp_path / STORE).mkdir(parents=True)
    usual = os.statvfs

    def statvfs(path: str) -> object:
        usual(path)
        return SimpleNamespace(**ROOM | changes)

    monkeypatch.setattr(os, "statvfs", statvfs)
    found = await disks(tmp_path)
    assert [each[:2] for each in found] == [
        (result, f"{place} {detail}") for place, _ in zip(("state", STORE), mends, strict=False)
    ]
    assert all(words in each[2] for each, words in zip(found, mends, strict=True))


@pytest.mark.parametrize("state", ["file", "file/state"])
async def test_a_folder_that_cannot_be_made(tmp_path: Path, state: str) -> None:
    """Something else is in its place, or above it."""
    (tmp_path / "file").touch()
    found = await disks(tmp_path, state)
    mend = f"make {state} a folder that can be written"
    assert found == [(Result.FAIL, f"{state}: Not a directory", mend)]


async def test_a_folder_that_this_user_may_not_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is said of it."""

    def statvfs(path: str) -> object:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "statvfs", statvfs)
    assert await disks(tmp_path) == []


async def test_a_disk_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one finding: the others are made."""
    go_on, plain = threading.Event(), os.statvfs

    def statvfs(path: str) -> os.statvfs_result:
        if "/state/" in path:
            go_on.wait(20)
        return plain(path)

    monkeypatch.setattr(configuration, "_ANSWER_S", 0.1)
    monkeypatch.setattr(os, "statvfs", statvfs)
    (tmp_path / STORE).mkdir(parents=True)
    found = await disks(tmp_path)
    go_on.set()
    assert found[0] == (
        Result.FAIL,
        "state: it does not answer",
        "see the disk that state is on",
    )


async def test_a_file_that_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told as the fault that it is."""
    go_on, file = threading.Event(), tmp_path / "shim.yaml"
    file.write_text("address: http://hub:5000\n")
    monkeypatch.setattr(node, "begin", lambda _: go_on.wait(20))
    monkeypatch.setattr(node, "_BEGIN_S", 0.1)
    found = await node.node_of(str(file))
    go_on.set()
    assert str(found.config_error) == f"{file}: {file}: it does not answer"
    assert found.config is None


async def test_the_disk_of_a_silent_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is what the mends name: `config check` would wait, too, and no socket is wrong."""
    go_on, file, plain = threading.Event(), tmp_path / "shim.yaml", files.read_file

    def silent(path: str) -> tuple[bytes, int]:
        files._being_read.append(path)
        go_on.wait(20)
        files._being_read.remove(path)
        return plain(path)

    file.write_text("address: http://hub:5000\n")
    monkeypatch.setattr(files, "read_file", silent)
    for where, name in ((node, "_BEGIN_S"), (admin, "ANSWER_S"), (threads, "SILENT_S")):
        monkeypatch.setattr(where, name, 0.1)
    monkeypatch.setattr(admin, "DEFAULT_SHIM", str(tmp_path / "none.sock"))
    looked = await node.node_of(str(file))
    found = [*await configuration.look(looked), *await service.look(looked)]
    go_on.set()
    told = [(each.check, each.mend) for each in found if each.check != "units"]
    mend = f"see the disk that {file} is on"
    assert told == [("configuration", mend), ("socket", mend)]
