"""containerd's registry configuration: what it says, and how containerd reaches a registry by it.

Pure but for the files that are read through `Files`.
"""

from __future__ import annotations

from shimcore.runtime.containerd.files import Files
from shimcore.runtime.containerd.hosts import Endpoint
from shimcore.runtime.containerd.release import Release, release_in, release_of
from shimcore.runtime.containerd.route import Reason, Route, Verdict, Wanted, judge, route
from shimcore.runtime.containerd.settings import (
    DEFAULT_CONFIG_PATH,
    DEFAULT_FILE,
    InlineTls,
    RegistrySettings,
    read_settings,
)

__all__ = [
    "DEFAULT_CONFIG_PATH",
    "DEFAULT_FILE",
    "Endpoint",
    "Files",
    "InlineTls",
    "Reason",
    "RegistrySettings",
    "Release",
    "Route",
    "Verdict",
    "Wanted",
    "judge",
    "read_settings",
    "release_in",
    "release_of",
    "route",
]
