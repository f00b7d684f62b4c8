"""An undo to which things happen: what cannot be copied, replaced or written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from shimcore.errors import ShimError
from shimcore.switch import health
from shimcore.switch.exchange import CONFIG, Mode, State
from shimcore.switch.undo import UNDO_SERVICE
from shimcore.switch.work import Switch
from tests.unit.switch.nodes import (
    ENDED,
    OURS,
    WAYS,
    Node,
    all_but_recorded,
    installed,
    node,
    request,
    switch,
    systemd,
    told,
    well,
)

__all__ = ["well"]
pytestmark = pytest.mark.usefixtures("well")
# A command that fails for one place, or as it is told, and else does its work.
_FAILING = """\
#!/bin/sh
case "$*" in {pattern}) exit 1 ;; esac
exec "/bin/{name}" "$@"
"""
KUBELETS = "/var/lib/kubelet/config.yaml"


def _failing(made: Node, name: str, pattern: str) -> None:
    place = made.tools / name
    place.write_text(_FAILING.format(pattern=pattern, name=name))
    place.chmod(0o755)


def test_what_could_not_be_replaced_needs_no_putting_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is immutable, or a mount of its own, was never changed: the undo ends."""
    made = node(tmp_path)
    before, rename = made.files(), os.rename

    def refused(old: str, new: Path) -> None:
        if str(new).endswith(KUBELETS):
            raise PermissionError(errno.EPERM, "Operation not permitted")
        rename(old, new)

    monkeypatch.setattr(os, "rename", refused)
    assert "not permitted" in switch(made, request("1.0.0")).detail
    _failing(made, "mv", f"*{KUBELETS}")
    assert made.undo() == 0
    assert made.files() == before
    assert made.state()["phase"] == "undone"
    assert made.own_files() <= ENDED


@pytest.mark.parametrize("way", WAYS)
def test_a_full_disk_does_not_keep_the_undo(way: str, tmp_path: Path) -> None:
    """Where no copy can be made, the journal's own files are put in place."""
    make, asked = WAYS[way]
    made = make(tmp_path)
    before = made.files()
    all_but_recorded(made, asked)
    _failing(made, "cp", r"-a\ *")
    assert made.undo() == 0
    assert made.files() == before
    assert made.state()["phase"] == "undone"


def test_what_cannot_be_put_back(tmp_path: Path) -> None:
    """kubelet and the runtime are told once, not at each try; the shim that kubelet uses stays."""
    made = node(tmp_path)
    before = made.files()
    all_but_recorded(made, request("1.0.0"))
    _failing(made, "mv", f"*{KUBELETS}")
    assert made.undo() == 1
    assert told(made)[:2] == ["restart containerd.service", "restart kubelet.service"]
    assert f"stop {OURS}" not in told(made)
    assert made.undo() == 1
    assert told(made) == []
    (made.tools / "mv").unlink()
    assert made.undo() == 0
    assert "restart kubelet.service" in told(made)
    assert f"stop {OURS}" in told(made)
    assert made.files() == before
    assert made.own_files() <= ENDED


def test_a_shim_that_served_is_there_whatever_fails(tmp_path: Path) -> None:
    """A file that cannot be put back does not leave kubelet without its socket."""
    made = installed(tmp_path)
    all_but_recorded(made, request("1.0.0", Mode.REMOVE))
    _failing(made, "mv", f"*{KUBELETS}")
    assert made.undo() == 1
    assert any(each.startswith("start image-cri-shim.socket") for each in told(made))


def test_a_file_that_others_could_read(tmp_path: Path) -> None:
    """What the fleet brings may have a password: root's alone. The undo gives the mode back."""
    made = node(tmp_path)
    place = made.root.host(CONFIG)
    place.write_text("address: http://old.hub\n")
    place.chmod(0o644)
    before = made.files()
    all_but_recorded(made, request("1.0.0"))
    assert place.stat().st_mode & 0o777 == 0o600
    made.undo()
    assert made.files() == before


def test_a_reason_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a full disk: the undo is begun at once all the same."""

    def nowhere(*_: object) -> State:
        raise ShimError("No space left on device")

    def ill(*_: object) -> str:
        monkeypatch.setattr(Switch, "fails", nowhere)
        return "it does not serve"

    monkeypatch.setattr(health, "why_not_well", ill)
    made = node(tmp_path)
    control = systemd(made)
    ended = switch(made, request("1.0.0"), control)
    assert (ended.phase, ended.step) == ("undone", "health")
    assert "it does not serve" in ended.detail
    assert control.asked[-1] == f"start {UNDO_SERVICE}"
