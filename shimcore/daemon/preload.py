"""Loads what a running service may still import, before an upgrade replaces its files.

Much of the program is loaded where it is first needed, which keeps a service small. A process that
goes on after its files were replaced, to finish its calls or because the new version cannot use the
configuration, would find another version's files, or none.
"""

from __future__ import annotations

import importlib
import pkgutil

import shimcore
from shimcore.errors import ShimError

# What commands use and the service does not.
_COMMANDS = ("client", "demo", "doctor", "fleet", "switch", "systemd")
# What Python and the libraries import inside of functions that the service reaches.
_LIBRARIES = (
    "_strptime",
    "anyio._core._asyncio_selector_thread",
    "email.generator",
    "email.policy",
    "encodings.ascii",
    "encodings.idna",
    "encodings.latin_1",
    "grp",
    "h2.connection",
    "httpx",
    "idna.uts46data",
    "pwd",
    "shutil",
    "textwrap",
    "tracemalloc",
)


class PreloadError(ShimError):
    """A module cannot be loaded: its files are damaged, or replaced already."""


def preload() -> int:
    """How many modules are in memory: all that may be needed. Takes a second.

    Raises PreloadError.
    """
    names = [*_own(), *_LIBRARIES]
    for name in names:
        try:
            importlib.import_module(name)
        except (ImportError, OSError) as error:
            raise PreloadError(f"{name} cannot be loaded: {error}") from error
    return len(names)


def _own() -> list[str]:
    """The service's own modules."""
    tops = [module.name for module in pkgutil.iter_modules(shimcore.__path__)]
    names = [f"shimcore.{top}" for top in tops if top not in _COMMANDS]
    return [name for top in names for name in (top, *_below(top))]


def _below(name: str) -> list[str]:
    package = importlib.import_module(name)
    places = getattr(package, "__path__", None)
    if places is None:
        return []
    return [module.name for module in pkgutil.walk_packages(places, f"{name}.")]
