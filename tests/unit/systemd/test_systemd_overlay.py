"""A root with changes over it is read as it will be."""

from __future__ import annotations

from pathlib import Path

from shimcore.systemd.changes import Change, Part
from shimcore.systemd.edits import SpliceEdit
from shimcore.systemd.entries import File
from shimcore.systemd.overlay import Overlay
from tests.unit.systemd.machines import unpacked

FILES = {"/etc/a/old.conf": "old", "/etc/a/stays.conf": "stays", "/etc/b/only.conf": "only"}


def test_what_goes_and_what_comes(tmp_path: Path) -> None:
    """In names, in texts, and in whether anything is there."""
    changes = [
        Change("/etc/a/old.conf", None),
        Change("/etc/a/new/x.conf", File(b"new")),
        Change("/etc/b/only.conf", None),
    ]
    root = Overlay(unpacked(tmp_path, FILES), changes=changes)
    assert list(root.names("/etc/a")) == ["new", "stays.conf"]
    assert list(root.names("/etc/a/new")) == ["x.conf"]
    assert list(root.names("/etc/b")) == []
    assert [root.exists(f"/etc/a/{name}") for name in ("old.conf", "new", "stays.conf")] == [
        False,
        True,
        True,
    ]
    assert [root.text(f"/etc/a/{name}") for name in ("old.conf", "new/x.conf", "stays.conf")] == [
        None,
        "new",
        "stays",
    ]


def test_two_names_of_one_file(tmp_path: Path) -> None:
    """An edit by the one is made on that by the other, and there is one change."""
    root = unpacked(tmp_path, {"/etc/a": "1\n2\n"})
    root.host("/etc/link").symlink_to("a")
    overlay = Overlay(root, Part.RUNTIME)
    overlay.edit("/etc/a", SpliceEdit((("1", "one"),)), "")
    overlay.edit("/etc/link", SpliceEdit((("2", "two"),)), "")
    (change,) = overlay.changes()
    assert change.path == "/etc/a"
    assert change.entry == File(b"one\ntwo\n", root.host("/etc/a").stat().st_mode & 0o777)
    assert change.edit == SpliceEdit((("1", "one"), ("2", "two")))
