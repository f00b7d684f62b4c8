"""The disks of stateDir and of the image stores: what keeps a file from being written there."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from shimcore.client.admin import endpoint_of
from shimcore.cluster.starting import begin
from shimcore.doctor import Node, Result, configuration
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
    node = Node(endpoint_of(str(file)), Root(tmp_path), start=begin(str(file)))
    found = [each for each in await configuration.look(node) if each.check == "disk"]
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
