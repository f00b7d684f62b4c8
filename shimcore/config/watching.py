"""Notices that a configuration has changed, by the content of every file it is made of."""

from __future__ import annotations

import os

from shimcore.config.files import stamp_now
from shimcore.config.kubernetes import ClusterPart
from shimcore.config.load import attempt
from shimcore.config.model import Config
from shimcore.errors import ConfigError


class Watcher:
    """Looks at the configuration file and at each login and CA file that it names.

    Content decides, read through symlinks: an edit in place, a file renamed over it and
    the swapped `..data` link of a mounted ConfigMap are all one thing, and a mere `touch`
    is none. Asks nothing of the kernel; someone calls `check` now and then, and hands in
    what the cluster says (`put`).
    """

    def __init__(
        self, path: str | os.PathLike[str], config: Config, cluster: ClusterPart | None = None
    ) -> None:
        self._path = os.fspath(path)
        self._stamps = config.files
        self._cluster = cluster
        self._offered: ClusterPart | None = None

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
            loaded, self._stamps = attempt(self._path, self._offered)
            if isinstance(loaded, Config):
                self._cluster, self._offered = self._offered, None
                return loaded
        loaded, self._stamps = attempt(self._path, self._cluster)
        if isinstance(loaded, ConfigError):
            raise loaded
        return loaded

    @property
    def cluster(self) -> ClusterPart | None:
        """The cluster's part that counts: the last one that could be used."""
        return self._cluster

    def put(self, cluster: ClusterPart) -> Config:
        """The configuration with another cluster's part from here on.

        Raises ConfigError where the two do not go together; the part before then stays.
        """
        self._offered = cluster
        loaded, stamps = attempt(self._path, cluster)
        if isinstance(loaded, ConfigError):
            raise loaded
        self._stamps, self._cluster, self._offered = stamps, cluster, None
        return loaded
