"""A change to one file or link, and what it looks like."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import PurePosixPath

from shimcore.errors import ShimError
from shimcore.systemd import kubelet
from shimcore.systemd.edits import Edit
from shimcore.systemd.entries import Entry, File, Link, read
from shimcore.systemd.root import Root
from shimcore.systemd.systemctl import ServiceControl
from shimcore.systemd.units import STATE_DIR

CRICTL = "/etc/crictl.yaml"


class Part(Enum):
    """What of an installation a change is for."""

    OWN = auto()
    """The service itself."""
    WIRING = auto()
    """Kubelet and crictl, which are pointed at the shim."""
    RUNTIME = auto()
    """The runtime, which is told how to reach the registries."""


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be at a path; `entry` None: nothing.

    `edit` is there where the file belongs to somebody else and only a part of it changes.
    """

    path: str
    entry: Entry | None
    edit: Edit | None = None
    part: Part = Part.OWN
    optional: bool = False
    """The installation is whole without it; its text interests nobody."""
    then: str = ""
    """What makes the runtime, or a distribution's kubelet, read the file: `restart UNIT`.

    `reload UNIT` where that is enough; "" for nothing.
    """

    @property
    def is_for_kubelet(self) -> bool:
        """Whether kubelet has to be started again after it."""
        return self.part is Part.WIRING and self.path != CRICTL


@dataclass(slots=True)
class Changes:
    """What is to change on a node, and what the operator should know, one line each."""

    root: Root
    changes: list[Change]
    notes: list[str]

    @property
    def wiring(self) -> list[Change]:
        """The changes to kubelet's and crictl's files."""
        return self._of(Part.WIRING)

    @property
    def for_kubelet(self) -> list[Change]:
        """Those of them after which kubelet has to be started again."""
        return [change for change in self.changes if change.is_for_kubelet]

    @property
    def for_runtime(self) -> list[Change]:
        """The changes to what the runtime is told of registries."""
        return self._of(Part.RUNTIME)

    @property
    def own(self) -> list[Change]:
        """The changes to the service's own files."""
        return self._of(Part.OWN)

    def refuse_read_only(self) -> None:
        """Raises ShimError, before anything is written, where a file system takes no writes."""
        needed = [each.path for each in self.changes if not each.optional]
        for folder in (*(str(PurePosixPath(path).parent) for path in needed), STATE_DIR):
            if self.root.is_read_only(folder):
                raise ShimError(
                    f"{self.root.real(folder)}: its file system is read-only: mount it for "
                    "writing, then run this command again; nothing was changed"
                )

    def _of(self, part: Part) -> list[Change]:
        return [change for change in self.changes if change.part is part]


def pending(root: Root, changes: Iterable[Change]) -> list[Change]:
    """Those that are not so already."""
    return [change for change in changes if read(root, change.path) != change.entry]


def restart_kubelet(control: ServiceControl, unit: str, way: str) -> str:
    """Have a kubelet that runs in `unit` read its changed files; what was done. Raises ShimError.

    `way`: whom it uses then.
    """
    if not control.is_active(unit):
        return f"kubelet will use the {way} when it is started"
    control.run("restart", unit)
    return f"{unit} restarted: it uses the {way}"


def kubelet_unit(wiring: Iterable[Change]) -> str:
    """The unit whose restart makes kubelet read its changed files."""
    named = (change.then.partition(" ")[2] for change in wiring if change.then)
    return next(named, kubelet.UNIT)


def diff(root: Root, change: Change) -> Iterator[str]:
    """Lines of a unified diff between what is there and what is to be there."""
    old, new = read(root, change.path), change.entry
    if change.optional:
        yield f"--- {_name(change.path, old)}"
        yield f"+++ {_name(change.path, new)}, {len(_lines(new))} lines"
        return
    before, after = _lines(old), _lines(new)
    yield from difflib.unified_diff(
        before, after, _name(change.path, old), _name(change.path, new), lineterm=""
    )
    if isinstance(old, File) and isinstance(new, File) and _access(old) != _access(new):
        yield f"{change.path}: {_access(old)} becomes {_access(new)}"


def _name(path: str, entry: Entry | None) -> str:
    if entry is None:
        return "/dev/null"
    return f"{path} ({entry.mode:04o})" if isinstance(entry, File) else f"{path} (link)"


def _access(file: File) -> str:
    return f"{file.mode:04o} {file.uid}:{file.gid}"


def _lines(entry: Entry | None) -> list[str]:
    if entry is None:
        return []
    if isinstance(entry, Link):
        return [entry.target]
    return entry.content.decode(errors="replace").splitlines()
