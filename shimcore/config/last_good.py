"""The last configuration that was good, kept for a start with a file that is not.

One JSON file in `stateDir`: `{"source", "kept_at", "files": {path: base64}}`, the configuration
file itself and all that was read for it. It holds passwords, as those do.
"""

from __future__ import annotations

import json
import os
import re
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from shimcore.config.document import mapping_of, read_document
from shimcore.config.files import Contents, Files, UnreadableFileError
from shimcore.config.keys import TOP_KEYS
from shimcore.config.load import Attempt, attempt
from shimcore.config.model import Config
from shimcore.config.overlay import Overlay
from shimcore.config.state import StateError, kept_at, read_state, write_state
from shimcore.threads import in_time

FILE_NAME = "last-good.json"
_ANSWER_S = 1.0
_READ_S = 5.0
"""For all files together: a configuration may name hundreds on a disk that does not answer."""
_DEFAULT_FOLDER = next(key.default or "" for key in TOP_KEYS if key.name == "stateDir")
# In a file that is not even YAML, this is what it most likely meant.
_FOLDER_LINE = re.compile(r"""^stateDir:[ \t]*["']?([^\s"'#]+)""", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class LastGood:
    """What the files held, by path, and when that was kept (seconds since 1970)."""

    source: str
    """The configuration file, as an absolute path."""
    contents: Mapping[str, bytes] = field(repr=False)
    kept_at: float


def keep_good(
    folder: str, path: str, contents: Mapping[str, bytes], *, takes: bool = False
) -> None:
    """Keep what the configuration at `path` was read from, unless it is kept already.

    Raises StateError; without `takes` also where the copy there is of another file, which may need
    it.
    """
    source = os.path.abspath(path)
    try:
        before = _recall(folder, path)
    except StateError:
        before = None
    other = before.source if before is not None and before.source != source else None
    if other is not None and not takes and os.path.lexists(other):
        raise StateError(
            f"{os.path.join(folder, FILE_NAME)}: kept for {other}, which is there still: "
            f"set a stateDir of its own in {path}"
        )
    if before is not None and (before.source, before.contents) == (source, contents):
        return
    tree = {
        "source": source,
        "kept_at": round(time.time()),
        "files": {name: b64encode(content).decode() for name, content in contents.items()},
    }
    write_state(folder, FILE_NAME, json.dumps(tree).encode(), "the configuration")


def recall_good(
    path: str, contents: Contents = lambda _: None
) -> tuple[LastGood | None, tuple[str, ...]]:
    """What was kept of the configuration at `path`, and why a copy is not used.

    Looked for where the file says, as far as it can be read, and in the default folder. `contents`
    has what the file holds where that has been read.
    """
    faults = []
    for folder in dict.fromkeys(_folders(path, contents)):
        try:
            found = _recall(folder, path)
        except StateError as error:
            faults.append(str(error))
            continue
        if found is not None and found.source == os.path.abspath(path):
            return found, ()
    return None, tuple(faults)


def attempt_good(path: str, good: Mapping[str, bytes], overlay: Overlay | None = None) -> Attempt:
    """The last good configuration of `path`, with what the other files that it names hold now.

    With what they held where one cannot be read in time, and all where that is no configuration.
    `contents` is what they hold in it.
    """
    now = _now(path, good)
    tried = attempt(path, overlay, now.get)
    if isinstance(tried.outcome, Config):
        return replace(tried, contents=now)
    return replace(attempt(path, overlay, good.get), contents=good)


def _now(path: str, good: Mapping[str, bytes]) -> dict[str, bytes]:
    held, end = dict(good), time.monotonic() + _READ_S
    for name in good:
        limit_s = min(_ANSWER_S, end - time.monotonic())
        if name == path or limit_s <= 0:
            continue
        with suppress(UnreadableFileError, TimeoutError):
            held[name] = in_time(partial(Files("").read_bytes, name), limit_s)
    return held


def _recall(folder: str, path: str) -> LastGood | None:
    """The copy in a folder, whichever file it is of. Raises StateError for a spoiled one."""
    content = read_state(folder, FILE_NAME)
    if content is None:
        return None
    try:
        tree = json.loads(content)
        files = {str(k): b64decode(v, validate=True) for k, v in tree["files"].items()}
        relative = next((name for name in files if path.endswith(f"/{name}")), None)
        if relative is not None:  # of a relative `-f` of 1.0.0; until 2.0
            base = path.removesuffix(relative)
            files = {os.path.join(base, name): content for name, content in files.items()}
        found = LastGood(str(tree["source"]), files, kept_at(tree["kept_at"]))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        found = None
    if found is None or (found.source == os.path.abspath(path) and path not in files):
        # Raised outside the handler: the error of json holds the whole text.
        raise StateError(f"{os.path.join(folder, FILE_NAME)}: not a copy that was kept here")
    return found


def _folders(path: str, contents: Contents) -> Iterator[str]:
    files = Files(os.path.dirname(path), contents)
    try:
        text = in_time(partial(files.read_text, path), _ANSWER_S)
    except (UnreadableFileError, TimeoutError):
        text = ""
    tree, _ = read_document(text)
    named = mapping_of(tree).get("stateDir")
    line = _FOLDER_LINE.search(text)
    for folder in (named, line and line[1], _DEFAULT_FOLDER):
        if isinstance(folder, str) and folder.strip():
            yield files.resolve(folder.strip())
