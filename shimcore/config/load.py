"""A file, or text, → Config."""

from __future__ import annotations

import os

from shimcore.config.building import build
from shimcore.config.document import read_document
from shimcore.config.files import Files, UnreadableFileError
from shimcore.config.model import Config, FileStamp
from shimcore.errors import ConfigError, ConfigFault


def load(path: str | os.PathLike[str]) -> Config:
    """The configuration in the file `path`; ConfigError with every fault of it."""
    loaded = attempt(os.fspath(path))[0]
    if isinstance(loaded, ConfigError):
        raise loaded
    return loaded


def parse_config(text: str, source: str) -> Config:
    """The configuration in `text`; relative paths in it are below the folder of `source`.

    Reads the files that it names (logins, authorities). ConfigError with every fault.
    """
    return _parse(text, source, Files(os.path.dirname(source)))


def attempt(path: str) -> tuple[Config | ConfigError, tuple[FileStamp, ...]]:
    """What loading `path` comes to, and the stamps of all files that it depended on."""
    files = Files(os.path.dirname(path))
    try:
        return _parse(_read(path, files), path, files), files.stamps()
    except ConfigError as error:
        return error, files.stamps()


def _read(path: str, files: Files) -> str:
    try:
        return files.read_text(path)
    except UnreadableFileError as error:
        raise ConfigError(path, (ConfigFault("", str(error)),)) from None


def _parse(text: str, source: str, files: Files) -> Config:
    tree, faults = read_document(text)
    if tree is None and faults:
        raise ConfigError(source, tuple(faults))
    if tree is not None and not isinstance(tree, dict):
        reason = "keys and values expected, such as: address: http://sealos.hub:5000"
        raise ConfigError(source, (ConfigFault("", reason),))
    return build(tree, source, files, faults)
