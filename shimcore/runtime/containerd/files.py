"""What is needed of a file system to read containerd's configuration."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class Files(Protocol):
    """Files by absolute path; `shimcore.systemd.root.Root` is one."""

    def text(self, path: str) -> str | None:
        """The file's text; None when there is no such file. Raises ShimError."""

    def names(self, path: str) -> Iterable[str]:
        """The names in a directory, sorted; none when it is not there."""

    def exists(self, path: str) -> bool:
        """Whether anything is there."""
