"""A file, or text, → Config; what comes from elsewhere, if there is any, over it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from shimcore.config.building import build
from shimcore.config.document import mapping_of, read_marked_document
from shimcore.config.files import Contents, Files, UnreadableFileError
from shimcore.config.marks import Marks, located
from shimcore.config.model import Config, FileStamp
from shimcore.config.overlay import Overlay
from shimcore.config.provenance import leaves
from shimcore.errors import ConfigError, ConfigFault


def load(path: str | os.PathLike[str], overlay: Overlay | None = None) -> Config:
    """The configuration in the file `path`; ConfigError with every fault of it.

    What `overlay` says is merged over it, in memory.
    """
    return attempt(os.fspath(path), overlay).config


def parse_config(text: str, source: str) -> Config:
    """The configuration in `text`; relative paths in it are below the folder of `source`.

    Reads the files that it names (logins, authorities). ConfigError with every fault.
    """
    return _parse(text, source, Files(os.path.dirname(source)), None)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What loading came to, and what it depended on: stamps of all files, what they held."""

    outcome: Config | ConfigError
    stamps: tuple[FileStamp, ...]
    contents: Mapping[str, bytes] = field(repr=False)

    @property
    def config(self) -> Config:
        """The configuration. Raises ConfigError where there is none."""
        if isinstance(self.outcome, ConfigError):
            raise self.outcome
        return self.outcome


def attempt(path: str, overlay: Overlay | None = None, kept: Contents = lambda _: None) -> Attempt:
    """Load `path`; the files that `kept` knows hold what they held when they were kept."""
    files = Files(os.path.dirname(path), kept)
    outcome: Config | ConfigError
    try:
        outcome = _parse(text_of(path, files), path, files, overlay)
    except ConfigError as error:
        outcome = error
    return Attempt(outcome, files.stamps(), files.contents)


def text_of(path: str, files: Files) -> str:
    """What a configuration file holds. Raises ConfigError."""
    try:
        return files.read_text(path)
    except UnreadableFileError as error:
        raise ConfigError(path, (ConfigFault("", str(error)),)) from None


def _parse(text: str, source: str, files: Files, overlay: Overlay | None) -> Config:
    tree, faults, marks = read_marked_document(text)
    if tree is None and faults:
        raise ConfigError(source, tuple(faults))
    if tree is not None and not isinstance(tree, dict):
        reason = "keys and values expected, such as: address: http://sealos.hub:5000"
        raise ConfigError(source, (ConfigFault("", reason),))
    given = mapping_of(tree)
    try:
        own = build(given, source, files, faults, dict.fromkeys(leaves(given, ""), source))
    except ConfigError as error:
        placed = sorted((located(fault, marks) for fault in error.faults), key=_line)
        raise ConfigError(source, tuple(placed)) from None
    own = replace(own, notices=(*own.notices, *_cut_logins(marks)))
    merged = None if overlay is None else overlay.over(given, own)
    if merged is None:
        return own
    try:
        config = build(merged.tree, source, files, [], merged.origins)
    except ConfigError as error:
        # The file is faultless by itself: what is over it is at fault.
        raise ConfigError(f"{source} with {overlay}", error.faults) from None
    lone = (*own.lone_logins, *merged.lone_logins)
    notices = (*config.notices, *merged.notices, *map(str, lone))
    return replace(config, notices=notices, lone_logins=lone)


def _line(fault: ConfigFault) -> float:
    """For the order of the file; what has no place comes last."""
    return fault.place.line if fault.place else math.inf


def _cut_logins(marks: Marks) -> list[str]:
    """A notice for each login that a `#` may have cut."""
    return [
        f"{path}: what follows the # on line {mark.line + 1} is a comment to YAML; if it is part of"
        " the password, put quotes around all of it"
        for path, mark in marks.items()
        if mark.is_cut and mark.key == "auth"
    ]
