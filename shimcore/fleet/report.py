"""What a pod shows of itself: readiness, the termination message, the node's labels."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Mapping
from pathlib import Path

from shimcore.fleet.host import Health
from shimcore.fleet.records import (
    REMOVED,
    REVISION_LABEL,
    STATE_LABEL,
    UNSUPPORTED,
    VERSION_LABEL,
)
from shimcore.fleet.values import Wanted
from shimcore.switch.exchange import FAILED, Mode, Phase, Revision, State

log = logging.getLogger("shimcore.fleet")

SWITCHING = "switching"

_LABEL_LIMIT = 63
_MESSAGE_LIMIT = 4096  # of a termination message, by kubelet


def state_label(
    mode: Mode, version: str, state: State | None, health: Health | None, *, begun: bool = False
) -> str:
    """The value of the node's label: a version and a word, `1.2.3.healthy`.

    `begun`: a switch is being started, or has been, and has said nothing yet.
    """
    if begun:
        return label_value(f"{version}.{SWITCHING}")
    if state is None:
        return REMOVED if mode is Mode.REMOVE else "waiting"
    if state.phase is Phase.REMOVED:
        return REMOVED
    if state.phase is Phase.UNSUPPORTED:
        return UNSUPPORTED
    if state.phase is Phase.HEALTHY and health is not None:
        return label_value(f"{state.version or version}.{health.value}")
    word = SWITCHING if state.phase is Phase.RUNNING else state.phase.value
    return label_value(f"{version}.{word}")


def is_in_mid_switch(labels: Mapping[str, str]) -> bool:
    """Whether a node's labels say that a switch was begun there and is not known to be well."""
    word = labels.get(STATE_LABEL, "").rpartition(".")[2]
    return word == SWITCHING or word in {phase.value for phase in FAILED}


def node_labels(
    mode: Mode, version: str, state: State | None, health: Health | None, *, begun: bool = False
) -> dict[str, str | None]:
    """The labels that say how the node is; not the one that says it is done."""
    serves = state.version if state is not None else None
    return {
        STATE_LABEL: state_label(mode, version, state, health, begun=begun),
        VERSION_LABEL: label_value(serves) if serves else None,
    }


def done_label(revision: Revision) -> dict[str, str | None]:
    """The label that says that the node is well with a revision."""
    return {REVISION_LABEL: revision}


def label_value(text: str) -> str:
    """The text as a label may have it (Kubernetes: labels, syntax): 1.2+git is 1.2-git."""
    value = re.sub(r"[^A-Za-z0-9_.-]", "-", text)
    if len(value) > _LABEL_LIMIT:
        head, _, word = value.rpartition(".")
        value = f"{head[: _LABEL_LIMIT - len(word) - 1]}.{word}"
    return value.strip("-_.")


def is_ready(wanted: Wanted, version: str, state: State | None, health: Health | None) -> bool:
    """Whether this node is what this pod is there for. No registry decides that."""
    if wanted.mode is Mode.REMOVE:
        return state is None or state.phase is Phase.REMOVED
    if state is None or state.phase is not Phase.HEALTHY or state.version != version:
        return False
    return health is Health.HEALTHY


class Outlet:
    """The files that kubelet looks at."""

    def __init__(self, ready_file: Path, termination_log: Path) -> None:
        self._ready_file = ready_file
        self._termination_log = termination_log

    def ready(self, is_ready: bool) -> None:
        """Have the readiness probe find its file, or not. Raises OSError."""
        if is_ready:
            self._ready_file.touch()
        else:
            self._ready_file.unlink(missing_ok=True)

    def message(self, text: str) -> None:
        """What the pod's status shows when it has ended."""
        log.info("%s", text)
        with contextlib.suppress(OSError):  # outside of a pod there is no such file
            self._termination_log.write_text(text[:_MESSAGE_LIMIT])
