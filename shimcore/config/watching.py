"""Notices that a configuration has changed, by the content of every file it is made of."""

from __future__ import annotations

import os
from collections.abc import Mapping

from shimcore.config.files import stamp_now
from shimcore.config.load import Attempt, attempt
from shimcore.config.model import Config
from shimcore.config.overlay import Overlay
from shimcore.errors import ConfigError


class Watcher:
    """Looks at the configuration file and at each login and CA file that it names.

    Content decides, read through symlinks: an edit in place, a file renamed over it and
    the swapped `..data` link of a mounted ConfigMap are all one thing, and a mere `touch`
    is none. Asks nothing of the kernel; someone calls `check` now and then, and hands in
    what the cluster says (`put`). Each method reads files and parses: not for an event loop.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        config: Config,
        cluster: Overlay | None = None,
        good: Mapping[str, bytes] | None = None,
    ) -> None:
        self._path = os.fspath(path)
        self._stamps = config.files
        self.cluster = cluster
        """The cluster's part that counts: the last one that could be used."""
        self._offered: Overlay | None = None
        self.good: Mapping[str, bytes] = good or {}
        """What the files held, by path, that the last good configuration was read from."""
        self.file_is_good = True
        """Whether the file could be used when it was looked at last."""

    def check(self) -> Config | None:
        """The new configuration if anything changed since the last look, else None.

        Raises ConfigError for a configuration that cannot be used, once: the same content
        is not tried again, and the configuration in force stays the caller's.
        """
        if self._stamps and all(stamp_now(file.path) == file.stamp for file in self._stamps):
            return None
        return self.reload()

    def reload(self) -> Config:
        """The configuration as it is on disk now, changed or not; ConfigError if unusable.

        A cluster's part that was refused is tried again: the file may have been the fault.
        """
        if self._offered is not None:
            tried = self._attempt(self._offered)
            if isinstance(tried.outcome, Config):
                self.cluster, self._offered = self._offered, None
                return tried.outcome
        return self._attempt(self.cluster).config

    def _attempt(self, cluster: Overlay | None) -> Attempt:
        tried = attempt(self._path, cluster)
        self._stamps = tried.stamps
        self._note(tried)
        return tried

    def _note(self, tried: Attempt) -> None:
        self.file_is_good = isinstance(tried.outcome, Config)
        if self.file_is_good:
            self.good = tried.contents

    def put(self, cluster: Overlay) -> Config:
        """The configuration with another cluster's part from here on.

        Over the last good file where the one there is not. Raises ConfigError where the two
        do not go together; the part before then stays.
        """
        self._offered = cluster
        tried = attempt(self._path, cluster)
        if isinstance(tried.outcome, Config):
            self._stamps = tried.stamps
            self._note(tried)
        elif self.good and self._is_bad():
            self.file_is_good = False
            from shimcore.config.last_good import attempt_good  # noqa: PLC0415 - loads asyncio

            tried = attempt_good(self._path, self.good, cluster)
        config = tried.config
        self.cluster, self._offered = cluster, None
        return config

    def _is_bad(self) -> bool:
        """Whether the file cannot be used even by itself."""
        return isinstance(attempt(self._path).outcome, ConfigError)
