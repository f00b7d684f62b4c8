"""Notices that a configuration has changed, by the content of every file it is made of."""

from __future__ import annotations

import os

from shimcore.config.files import stamp_now
from shimcore.config.load import attempt
from shimcore.config.model import Config
from shimcore.errors import ConfigError


class Watcher:
    """Looks at the configuration file and at each login and CA file that it names.

    Content decides, read through symlinks: an edit in place, a file renamed over it and
    the swapped `..data` link of a mounted ConfigMap are all one thing, and a mere `touch`
    is none. Asks nothing of the kernel; someone calls `check` now and then.
    """

    def __init__(self, path: str | os.PathLike[str], config: Config) -> None:
        self._path = os.fspath(path)
        self._stamps = config.files

    def check(self) -> Config | None:
        """The new configuration if anything changed since the last look, else None.

        Raises ConfigError for a configuration that cannot be used, once: the same content
        is not tried again, and the configuration in force stays the caller's.
        """
        if self._stamps and all(stamp_now(file.path) == file.stamp for file in self._stamps):
            return None
        return self.reload()

    def reload(self) -> Config:
        """The configuration as it is on disk now, changed or not; ConfigError if unusable."""
        loaded, self._stamps = attempt(self._path)
        if isinstance(loaded, ConfigError):
            raise loaded
        return loaded
