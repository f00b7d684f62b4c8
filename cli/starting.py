"""The configuration that commands work with: what a shim that started now would have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli import exits

if TYPE_CHECKING:
    from shimcore.config import Config


def started(path: str) -> Config:
    """The file, with the node's copy of the cluster's part over it. Raises ConfigError."""
    from shimcore.cluster.starting import with_kept  # noqa: PLC0415
    from shimcore.config import load  # noqa: PLC0415 - a fast --help

    start = with_kept(path, load(path))
    for fault in start.faults:
        exits.say(fault)
    return start.config
