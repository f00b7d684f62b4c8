"""Files as they will be once changes are made, and what is left to the operator."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from shimcore.errors import ShimError
from shimcore.systemd.changes import Change
from shimcore.systemd.edits import SpliceEdit
from shimcore.systemd.entries import File, read
from shimcore.systemd.root import Root


class NotOursError(ShimError):
    """A file that is not written to; `addition` is what it needs, ready to be copied."""

    def __init__(self, reason: str, addition: str) -> None:
        super().__init__(f"{reason}; what has to be added:\n{addition}")
        self.reason = reason
        self.addition = addition


class Overlay:
    """A root with changes over it; each change of a file is made on the one before."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._texts: dict[str, str] = {}
        self._edits: dict[str, SpliceEdit] = {}
        self._thens: dict[str, str] = {}

    def text(self, path: str) -> str | None:
        """The file's text; None when there is no such file. Raises ShimError."""
        return self._texts[path] if path in self._texts else self._root.text(path)

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
        """A whole file of our own; `then` makes the runtime read it."""
        self._texts[path] = text
        self._thens[path] = then

    def edit(self, path: str, edit: SpliceEdit, then: str = "") -> None:
        """A part of somebody else's file."""
        known = self._edits.get(path)
        self._texts[path] = edit.apply(self.text(path) or "")
        self._edits[path] = edit if known is None else edit.joined(known)
        self._thens[path] = then

    def changes(self) -> list[Change]:
        """What was put and edited, in that order of paths. Raises ShimError."""
        return [self._change(path, then) for path, then in self._thens.items()]

    def _change(self, given: str, then: str) -> Change:
        path = self._root.real(given)
        content = self._texts[given].encode()
        edit = self._edits.get(given)
        if edit is None:
            return Change(path, File(content), runtime=True, then=then)
        now = read(self._root, path)
        if not isinstance(now, File):
            raise ShimError(f"{path}: no file that can be changed")
        return Change(path, replace(now, content=content), edit=edit, runtime=True, then=then)
