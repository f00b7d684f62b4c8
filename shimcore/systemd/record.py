"""What an installation changed, kept so that it can be taken back byte for byte.

`installed.json` in the state directory lists the files; `originals/` beside it has what was
in them, each under its SHA-256.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from shimcore.errors import ShimError
from shimcore.systemd import edits
from shimcore.systemd.changes import Change, Part
from shimcore.systemd.edits import Edit, FlagsEdit, SpliceEdit
from shimcore.systemd.entries import (
    Entry,
    File,
    Link,
    missing_directories,
    read,
    remove_empty,
    write,
)
from shimcore.systemd.envfile import ERRORS
from shimcore.systemd.root import Root
from shimcore.systemd.runtimes import docker
from shimcore.systemd.runtimes.rereading import unread_by_age
from shimcore.systemd.units import STATE_DIR

RECORD = f"{STATE_DIR}/installed.json"
ORIGINALS = f"{STATE_DIR}/originals"
_VERSIONS = 1, 2
"""The second has flags in several variables of one file: a program that knows the first alone
would leave some of them."""


@dataclass(slots=True)
class Recorded:
    """One file: how it is put back, and the fingerprint of what was put there."""

    back: Change
    after: Mapping[str, Any] | None

    def is_ours(self, entry: Entry | None) -> bool:
        """Whether the file is still as it was put there."""
        return fingerprint(entry) == self.after

    def as_json(self) -> dict[str, Any]:
        """As it stands in the record."""
        back = self.back
        return {
            "path": back.path,
            "before": fingerprint(back.entry),
            "after": self.after,
            "edit": None if back.edit is None else edits.as_json(back.edit),
            "wiring": back.part is Part.WIRING,
            "runtime": back.part is Part.RUNTIME,
            "then": back.then,
        }


@dataclass(slots=True)
class Record:
    """The whole installation."""

    was_active: bool = False
    """Whether a service of this name ran before."""
    directories: list[str] = field(default_factory=list)
    """Directories made for the files, outermost first."""
    files: dict[str, Recorded] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    """What has the runtime read its files (`Change.then`), as long as that is still to be done."""
    kubelet: str = ""
    """The unit of a kubelet whose files were put back, and which is still to be restarted."""

    def add(self, root: Root, change: Change) -> None:
        """Take up a change that is about to be made."""
        now = read(root, change.path)
        known = self.files.get(change.path)
        edit = change.edit
        if known is not None and edit is not None and known.back.edit is not None:
            edit = edit.joined(known.back.edit)
        if known is not None and (edit is None or known.is_ours(now)):
            before = known.back.entry
        else:
            before = _reverted(change, now, edit)
        back = replace(change, entry=before, edit=edit)
        self.files[change.path] = Recorded(back, fingerprint(change.entry))

    def save(self, root: Root) -> None:
        """Write the record and the originals. Raises ShimError."""
        for path in (f"{ORIGINALS}/x", *self.files):
            missing = missing_directories(root, path)
            self.directories += [each for each in missing if each not in self.directories]
        for recorded in self.files.values():
            if isinstance(recorded.back.entry, File):
                content = recorded.back.entry.content
                _put(root, f"{ORIGINALS}/{_sha256(content)}", content)
        text = json.dumps(self._as_json(), indent=1, sort_keys=True) + "\n"
        _put(root, RECORD, text.encode())

    def forget(self, root: Root) -> None:
        """Remove the originals, the record and the directories that are empty now.

        A removal that ends in the midst finds a record without files, and goes on.
        """
        self.files = {}
        self.save(root)
        for name in list(root.names(ORIGINALS)):
            write(root, f"{ORIGINALS}/{name}", None)
        remove_empty(root, ORIGINALS)
        write(root, RECORD, None)
        for directory in reversed(self.directories):
            remove_empty(root, directory)

    def _backs(self) -> list[Change]:
        return [each.back for each in self.files.values()]

    def _as_json(self) -> dict[str, Any]:
        found = (back.edit for back in self._backs())
        several = any(isinstance(edit, FlagsEdit) and edit.is_of_several for edit in found)
        return {
            "version": _VERSIONS[several],
            "was_active": self.was_active,
            "directories": self.directories,
            "files": [each.as_json() for each in self.files.values()],
            "unread": self.unread,
            "kubelet": self.kubelet,
        }


def load(root: Root) -> Record | None:
    """The record of an installation; None when there is none. Raises ShimError."""
    text = root.text(RECORD)
    if text is None:
        return None
    try:
        content = json.loads(text)
        if content["version"] not in _VERSIONS:
            raise ShimError(f"{RECORD}: written by another version of image-cri-shim")
        record = Record(content["was_active"] is True, _texts(content["directories"]))
        (record.kubelet,) = _texts([content.get("kubelet", "")])  # an older version has none
        for each in content["files"]:
            recorded = _recorded(root, each)
            record.files[recorded.back.path] = recorded
        noted = "unread" in content
        record.unread = _texts(content["unread"]) if noted else unread_by_age(root, record._backs())
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ShimError(
            f"{RECORD}: damaged, so it is not known what was there before ({error}); bring it back "
            "from a backup, or remove it: units and kubelet's files are then changed back by hand"
        ) from error
    return record


def written(root: Root, *, changed: bool = False) -> list[str]:
    """The whole files of the installation as they were written, or with `changed` all of them.

    What somebody has changed since is somebody else's. Raises ShimError.
    """
    known = load(root)
    return [
        path
        for path, each in (known.files if known else {}).items()
        if not each.back.edit and (changed or each.is_ours(read(root, path)))
    ]


def _recorded(root: Root, each: Mapping[str, Any]) -> Recorded:
    (path,) = _texts([each["path"]])
    edit = None
    if each["edit"] is not None:
        edit = edits.from_json(each["edit"])
        _texts(edit.texts())
    before = _original(root, each["before"])
    if isinstance(before, Link):
        _texts([before.target])
    if isinstance(before, File) and isinstance(edit, FlagsEdit) and not edit.is_of_several:
        # 1.0.0 knew one variable of a file alone; until 2.0.
        edit = edit.placed(before.content.decode(errors=ERRORS))
    (then,) = _texts([each.get("then", "")])  # an older version has none
    if edit is None and before is None and then == docker.RELOAD:
        # 1.0.0 recorded a daemon.json that it made as a whole file; until 2.0.
        sha256 = each["after"]["sha256"]
        text = root.text(path, ERRORS) or ""
        edit = docker.of_whole_file(
            text, lambda written: _sha256(written.encode(errors=ERRORS)) == sha256
        )
    part = Part.RUNTIME if each.get("runtime") is True else Part.OWN
    part = Part.WIRING if each["wiring"] is True else part
    return Recorded(Change(path, before, edit, part, then=then), each["after"])


def _texts(values: list[Any]) -> list[str]:
    """The same list, all of it texts as a path may be. Raises TypeError."""
    good = isinstance(values, list) and all(isinstance(v, str) and "\0" not in v for v in values)
    if not good:
        raise TypeError("a text expected")
    return values


def fingerprint(entry: Entry | None) -> dict[str, Any] | None:
    """The entry without its content, which is named by its SHA-256."""
    if entry is None:
        return None
    if isinstance(entry, Link):
        return {"link": entry.target}
    return {
        "sha256": _sha256(entry.content),
        "mode": entry.mode,
        "uid": entry.uid,
        "gid": entry.gid,
    }


def _put(root: Root, path: str, content: bytes) -> None:
    entry = File(content, 0o600)
    if read(root, path) != entry:
        write(root, path, entry)


def _original(root: Root, value: Mapping[str, Any] | None) -> Entry | None:
    if value is None:
        return None
    if "link" in value:
        return Link(value["link"])
    path = f"{ORIGINALS}/{value['sha256']}"
    kept = read(root, path)
    if not isinstance(kept, File) or _sha256(kept.content) != value["sha256"]:
        raise ShimError(f"{path}: the original of an installed file is missing or damaged")
    return File(kept.content, value["mode"], value["uid"], value["gid"])


def reverted(change: Change, edit: Edit, content: bytes) -> bytes:
    """The content of the change's file without our part. Raises ShimError, which names the file."""
    try:
        content = edits.reverted(edit, content)
    except ShimError as error:
        raise ShimError(f"{change.path}: {error}") from error
    if isinstance(edit, SpliceEdit) and change.then == docker.RELOAD:
        return docker.without(content, edit)
    return content


def _reverted(change: Change, entry: Entry | None, edit: Edit | None) -> Entry | None:
    """The file as it was before any edit of ours. Raises ShimError."""
    if edit is None or not isinstance(entry, File):
        return entry
    return replace(entry, content=reverted(change, edit, entry.content))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
