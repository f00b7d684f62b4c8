"""The folder on the node where a pod and the node's switch meet.

`request.json` is the pod's, `state.json` the switch's, `slot.json` the pod's for its successor.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path, PurePosixPath

from shimcore.config.state import StateError, read_state, write_state
from shimcore.fleet.values import FleetError, Held
from shimcore.jsontext import object_in
from shimcore.switch.exchange import (
    REQUEST,
    ROOM,
    STATE,
    UNDO,
    Phase,
    Revision,
    State,
    SwitchRequest,
)
from shimcore.systemd.root import Root

_REQUEST, _STATE, _UNDO = (PurePosixPath(path).name for path in (REQUEST, STATE, UNDO))
_SLOT = "slot.json"
_DETAIL_LIMIT = 700
_UNREADABLE = State("", Phase.UNDONE)
"""For one that is damaged, or a later version's: of no revision, so that the node is switched."""


class SwitchFiles:
    """Reads and writes them below the node's root. Methods raise FleetError."""

    def __init__(self, root: Path) -> None:
        self._folder = Root(root).host(ROOM)

    def ask(self, request: SwitchRequest) -> None:
        """Put the request there, whole or not at all."""
        self._write(_REQUEST, asdict(request), "the request to switch")

    def state(self) -> State | None:
        """What the switch said last; None where it never ran."""
        tree = self._read(_STATE)
        if tree is None:
            return None
        try:
            return State(
                run=str(tree["revision"]),
                phase=Phase(str(tree["phase"])),
                version=str(tree["version"]) if tree.get("version") else None,
                step=str(tree.get("step") or ""),
                detail=" ".join(str(tree.get("detail") or "").split())[:_DETAIL_LIMIT],
            )
        except (KeyError, ValueError):
            return _UNREADABLE

    def held(self) -> Held | None:
        """The slot that a pod of this node took; the API server knows if it is still the node's."""
        tree = self._read(_SLOT)
        try:
            if tree is None:
                return None
            before, ready = str(tree.get("before", "")), tree.get("ready") is not False
            return Held(int(str(tree["slot"])), Revision(str(tree["revision"])), before, ready)
        except (KeyError, ValueError):
            return None  # damaged: the slot is over in its time, or the node takes it again

    def hold(self, held: Held) -> None:
        """Note the slot."""
        self._write(_SLOT, asdict(held), "the slot")

    def let_go(self) -> None:
        """Forget it."""
        try:
            (self._folder / _SLOT).unlink(missing_ok=True)
        except OSError as error:
            raise FleetError(f"{self._folder / _SLOT}: {error.strerror}") from error

    def is_clearing(self) -> bool:
        """Whether the switch, or the timer after it, has still to clear up behind itself."""
        return (self._folder / _UNDO).exists()

    def remove(self) -> None:
        """Take the folder away: nothing of the shim is on the node any more."""
        shutil.rmtree(self._folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # something else is kept there
            self._folder.parent.rmdir()

    def _write(self, name: str, tree: object, what: str) -> None:
        try:
            write_state(str(self._folder), name, json.dumps(tree).encode(), what)
        except StateError as error:
            raise FleetError(str(error)) from error

    def _read(self, name: str) -> dict[str, object] | None:
        """What a file holds; {} where that is no JSON object."""
        try:
            content = read_state(str(self._folder), name)
        except StateError as error:
            raise FleetError(str(error)) from error
        return None if content is None else object_in(content) or {}
