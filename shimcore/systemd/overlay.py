"""Files as they will be once changes are made, and what is left to the operator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from shimcore.errors import ShimError
from shimcore.systemd.changes import Change, Part
from shimcore.systemd.edits import Edit, FlagsEdit
from shimcore.systemd.entries import File, read
from shimcore.systemd.envfile import ERRORS
from shimcore.systemd.root import Root

HEADER = "# Written by image-cri-shim install-service.\n"
"""The first line of a whole file."""


class NotOursError(ShimError):
    """A file that is not written to; `addition` is what it needs, ready to be copied."""

    def __init__(self, reason: str, addition: str) -> None:
        super().__init__(f"{reason}; what has to be added:\n{addition}")
        self.reason = reason
        self.addition = addition


class Overlay(Root):
    """A root with changes over it; each change of a file is made on the one before.

    Those made here are of one `part`.
    """

    def __init__(self, root: Root, part: Part = Part.OWN, changes: Iterable[Change] = ()) -> None:
        super().__init__(root.directory)
        self._part = part
        # By where each really is.
        self._changes = {self.real(change.path): change for change in changes}

    def text(self, path: str, errors: str = "strict") -> str | None:
        """The file's text as it will be, as `Root.text`. Raises ShimError."""
        real = self.real(path)
        if real not in self._changes:
            return super().text(path, errors)
        entry = self._changes[real].entry
        return entry.content.decode(errors=ERRORS) if isinstance(entry, File) else None

    def names(self, path: str) -> Iterator[str]:
        """The names that will be in a directory, sorted."""
        top = self.real(path).rstrip("/") + "/"
        below = (each[len(top) :] for each in self._changes if each.startswith(top))
        changed = {each.partition("/")[0] for each in below}
        names = {*super().names(path), *changed}
        yield from sorted(each for each in names if each not in changed or self.exists(top + each))

    def exists(self, path: str) -> bool:
        """Whether anything will be there."""
        real = self.real(path)
        if real in self._changes:
            return self._changes[real].entry is not None
        below = real.rstrip("/") + "/"
        there = (each for each, change in self._changes.items() if change.entry is not None)
        return any(each.startswith(below) for each in there) or super().exists(path)

    def put(self, path: str, text: str, then: str = "") -> None:
        """A whole file of our own; `then` has it read (`Change.then`). Raises ShimError."""
        file = File(text.encode(errors=ERRORS))
        # A drop-in of kubelet's keeps the name of the directory that kubelet was given.
        name = path if self._part is Part.WIRING else self.real(path)
        self._lay(Change(name, file, part=self._part, then=then), text, text)

    def edit(self, path: str, edit: Edit, addition: str, then: str = "") -> None:
        """A part of somebody else's file, which is made where there is none.

        `addition` is for `NotOursError`. Raises ShimError.
        """
        real = self.real(path)
        known = self._changes.get(real)
        errors = ERRORS if isinstance(edit, FlagsEdit) else "strict"
        try:
            text = edit.apply(self.text(path, errors) or "")
        except ShimError as error:
            raise ShimError(f"{real}: {error}") from error
        if known is not None and known.edit is not None:
            edit = edit.joined(known.edit)
        now = read(self, real)
        file = File(text.encode(errors=ERRORS))
        file = replace(now, content=file.content) if isinstance(now, File) else file
        self._lay(Change(real, file, edit, self._part, then=then), text, addition)

    def _lay(self, change: Change, text: str, addition: str) -> None:
        real = self.real(change.path)
        if self.is_read_only(real) and text != self.text(real, ERRORS):
            raise NotOursError(f"{real}: its file system is read-only", addition)
        self._changes[real] = change

    def changes(self) -> list[Change]:
        """What was put and edited, in that order of paths."""
        return list(self._changes.values())
