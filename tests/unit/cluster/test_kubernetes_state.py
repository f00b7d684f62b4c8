"""The kept copy: whole or not at all, for root alone, and never in the way."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from shimcore.cluster.documents import FILE_NAME, ClusterPart, Document, Kind, keep, recall
from shimcore.config.model import KubernetesSource
from shimcore.config.state import StateError

SOURCE = KubernetesSource(enabled=True, kubeconfig="/k")
PART = ClusterPart(
    SOURCE,
    {
        Kind.CONFIG_MAP: Document("timeout: 5m\n", "12"),
        Kind.SECRET: Document("sealos: {auth: {username: a, password: 'pä55'}}", "34"),
    },
)


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    """Every text and version, in a folder that was not there; mode 0600 whatever the umask."""
    folder = tmp_path / "a" / "state"
    before = os.umask(0)
    try:
        keep(str(folder), PART)
    finally:
        os.umask(before)
    kept = recall(str(folder), SOURCE)
    assert kept is not None
    assert kept.part == PART
    assert stat.S_IMODE((folder / FILE_NAME).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [path.name for path in folder.iterdir()] == [FILE_NAME]


def test_nothing_is_kept(tmp_path: Path) -> None:
    """Without a copy there is none; a copy of objects of another name is none, too."""
    assert recall(str(tmp_path), SOURCE) is None
    keep(str(tmp_path), PART)
    assert recall(str(tmp_path), KubernetesSource(enabled=True, name="other")) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b'{"documents": {"Pod": {}}}', b"\xff", b"[" * 100_000, b"null"]
    + [
        f'{{"namespace": "kube-system", "name": "x", "kept_at": {at}, "documents": {{}}}}'.encode()
        for at in ("1e300", "NaN", "1" * 400)
    ],
)
def test_a_spoiled_copy(tmp_path: Path, content: bytes) -> None:
    """It is said, without its content, and not used."""
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(StateError, match="not a copy that was kept here"):
        recall(str(tmp_path), SOURCE)


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy before stays as it was, and nothing is left beside it."""
    keep(str(tmp_path), PART)
    before = (tmp_path / FILE_NAME).read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StateError, match="No space left on device") as caught:
        keep(str(tmp_path), ClusterPart(SOURCE, {}))
    assert "pä55" not in str(caught.value)
    assert (tmp_path / FILE_NAME).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """As on a read-only file system."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot be kept"):
        keep(str(tmp_path / "file" / "state"), PART)
    with pytest.raises(StateError):
        recall(str(tmp_path / "file"), SOURCE)
