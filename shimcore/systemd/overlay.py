"""Files as they will be once changes are made, and what is left to the operator."""

from __future__ import annotations

from collections.abc import Iterable
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


class Overlay:
    """A root with changes over it, of one part; each change of a file is made on the one before."""

    def __init__(self, root: Root, part: Part) -> None:
        self._root = root
        self._part = part
        self._texts: dict[str, str] = {}
        self._edits: dict[str, Edit] = {}
        self._thens: dict[str, str] = {}

    def text(self, path: str, errors: str = "strict") -> str | None:
        """The file's text, as `Root.text`. Raises ShimError."""
        return self._texts[path] if path in self._texts else self._root.text(path, errors)

    def names(self, path: str) -> Iterable[str]:
        """The names in a directory, sorted."""
        top = path.rstrip("/") + "/"
        new = {each[len(top) :].partition("/")[0] for each in self._texts if each.startswith(top)}
        return sorted({*self._root.names(path), *new})

    def exists(self, path: str) -> bool:
        """Whether anything is there."""
        below = path.rstrip("/") + "/"
        return any(each == path or each.startswith(below) for each in self._texts) or (
            self._root.exists(path)
        )

    def put(self, path: str, text: str, then: str = "") -> None:
        """A whole file of our own; `then` has it read (`Change.then`). Raises ShimError."""
        self._write(path, text, text)
        self._thens[path] = then

    def edit(self, path: str, edit: Edit, addition: str, then: str = "") -> None:
        """A part of somebody else's file, which is made where there is none.

        `addition` is for `NotOursError`. Raises ShimError.
        """
        known = self._edits.get(path)
        errors = ERRORS if isinstance(edit, FlagsEdit) else "strict"
        try:
            text = edit.apply(self.text(path, errors) or "")
        except ShimError as error:
            raise ShimError(f"{self._root.real(path)}: {error}") from error
        self._write(path, text, addition, errors)
        self._edits[path] = edit if known is None else edit.joined(known)
        self._thens[path] = then

    def _write(self, path: str, text: str, addition: str, errors: str = "strict") -> None:
        if self._root.is_read_only(path) and text != self.text(path, errors):
            raise NotOursError(f"{self._root.real(path)}: its file system is read-only", addition)
        self._texts[path] = text

    def changes(self) -> list[Change]:
        """What was put and edited, in that order of paths. Raises ShimError."""
        return [self._change(path, then) for path, then in self._thens.items()]

    def _change(self, given: str, then: str) -> Change:
        edit = self._edits.get(given)
        # A drop-in of kubelet's keeps the name of the directory that kubelet was given.
        by_name = edit is None and self._part is Part.WIRING
        path = given if by_name else self._root.real(given)
        now = read(self._root, path) if edit else None
        content = self._texts[given].encode(errors=ERRORS)
        entry = replace(now, content=content) if isinstance(now, File) else File(content)
        return Change(path, entry, edit, self._part, then=then)
