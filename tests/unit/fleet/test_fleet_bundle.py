"""The bundle on a node: whole or not there."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from shimcore.fleet.bundle import (
    current,
    old_are_unused,
    read_sums,
    remove_old,
    unpack,
)
from shimcore.fleet.values import BundleError
from tests.support.fleetnode import FILES, make_bundle


def test_it_is_put_there_with_its_modes(tmp_path: Path) -> None:
    """Under its version, and nothing of the unfinished one is left; again changes nothing."""
    place = tmp_path / "opt/image-cri-shim"
    bundle = make_bundle(tmp_path, "1.0.0")
    assert unpack(bundle, place)
    assert os.listdir(place) == ["1.0.0"]
    for name, content in FILES.items():
        assert (place / "1.0.0" / name).read_bytes() == content + b"1.0.0"
        assert os.access(place / "1.0.0" / name, os.X_OK)
    assert not unpack(bundle, place)


@pytest.mark.parametrize("fault", ["changed", "missing"])
def test_a_damaged_copy_is_replaced(tmp_path: Path, fault: str) -> None:
    """A file that is not as its sum says does not stay."""
    bundle = make_bundle(tmp_path, "1.0.0")
    unpack(bundle, tmp_path / "opt")
    file = tmp_path / "opt/1.0.0/_internal/base.zip"
    file.write_bytes(b"") if fault == "changed" else file.unlink()
    assert unpack(bundle, tmp_path / "opt")
    assert not unpack(bundle, tmp_path / "opt")
    assert os.listdir(tmp_path / "opt") == ["1.0.0"]


def test_a_damaged_image_leaves_nothing_in_place(tmp_path: Path) -> None:
    """Neither the version nor a part of it, and the next try is not hindered."""
    bundle = make_bundle(tmp_path, "1.0.0")
    (bundle.folder / "image-cri-shim").write_bytes(b"other")
    with pytest.raises(BundleError, match="the image is damaged"):
        unpack(bundle, tmp_path / "opt")
    assert os.listdir(tmp_path / "opt") == []
    assert unpack(make_bundle(tmp_path, "1.0.0"), tmp_path / "opt")


def test_a_disk_that_becomes_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written takes no room on it any more, and a damaged copy that was there stays."""
    place = tmp_path / "opt"
    unpack(make_bundle(tmp_path, "1.0.0"), place)
    (place / "1.0.0/_internal/base.zip").unlink()
    files = iter(["fits"])

    def fsync(descriptor: int) -> None:
        if next(files, None) is None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(BundleError, match=r"^/.*opt: No space left on device; the bundle is not"):
        unpack(make_bundle(tmp_path, "1.0.0"), place)
    assert os.listdir(place) == ["1.0.0"]
    assert os.path.exists(place / "1.0.0/image-cri-shim")


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    """It is named."""
    (tmp_path / "opt").write_text("a file")
    with pytest.raises(BundleError, match=r"opt.*the bundle is not on the node"):
        unpack(make_bundle(tmp_path, "1.0.0"), tmp_path / "opt")


@pytest.mark.parametrize(
    "line", ["", "abc  image-cri-shim", f"{'0' * 64}  ../etc/passwd", f"{'0' * 64}  /etc/passwd"]
)
def test_sums_that_are_none(tmp_path: Path, line: str) -> None:
    """Nothing outside of the bundle is written, whatever an image says."""
    (tmp_path / "sums").write_text(line + "\n")
    with pytest.raises(BundleError):
        read_sums(tmp_path / "sums")


def test_sums_that_are_too_many(tmp_path: Path) -> None:
    """A list that is read in part would leave out what is behind."""
    line = f"{'0' * 64}  image-cri-shim\n"
    (tmp_path / "sums").write_text(line * (1024 * 1024 // len(line)))
    assert read_sums(tmp_path / "sums") == {"image-cri-shim": "0" * 64}
    (tmp_path / "sums").write_text(line * (1024 * 1024 // len(line) + 1))
    with pytest.raises(BundleError, match=r"sums: the list of sums is longer than 1048576 bytes"):
        read_sums(tmp_path / "sums")


def test_old_versions_go_but_the_one_before(tmp_path: Path) -> None:
    """And the one that the units run; what is no bundle stays, nor an environment of pip's."""
    place = tmp_path / "opt"
    for age, version in enumerate(("1.3.0", "1.2.0", "1.1.0", "1.0.0")):
        unpack(make_bundle(tmp_path, version), place)
        os.utime(place / version, (1e9 - age * 100, 1e9 - age * 100))
    (place / "notes").mkdir()
    (place / "bin").mkdir()
    (place / "bin/image-cri-shim").touch()
    os.utime(place / "bin", (1, 1))
    (place / "current").symlink_to("1.0.0")
    shutil.copytree(place / "1.1.0", place / ".unfinished-1.4.0")
    assert current(place) == "1.0.0"
    assert remove_old(place, frozenset({"1.3.0"})) == ["1.1.0"]
    left = [".unfinished-1.4.0", "1.0.0", "1.2.0", "1.3.0", "bin", "current", "notes"]
    assert sorted(os.listdir(place)) == left


@pytest.mark.parametrize(("minutes", "unused"), [(0, False), (15, False), (21, True)])
def test_whether_a_process_may_still_run_out_of_an_old_version(
    tmp_path: Path, minutes: int, unused: bool
) -> None:
    """A quarter of an hour after the link has moved, and some minutes more, none does."""
    assert not old_are_unused(tmp_path)
    link = tmp_path / "current"
    link.symlink_to("1.0.0")
    moved = time.time() - minutes * 60
    os.utime(link, (moved, moved), follow_symlinks=False)
    assert old_are_unused(tmp_path) == unused
