"""The configuration that a shim starts with: the file's or the last good one, and the cluster's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from shimcore import threads
from shimcore.config.files import Contents, SilentFileError, not_answering
from shimcore.config.last_good import LastGood, attempt_good, recall_good
from shimcore.config.load import Attempt, attempt
from shimcore.config.model import Config
from shimcore.errors import ConfigError, ConfigFault

if TYPE_CHECKING:
    from shimcore.cluster.documents import Kept

_T = TypeVar("_T")
_log = logging.getLogger("shimcore.config")
_NO_FOLDER = ", and a file that does not answer cannot say which stateDir may have one"
_COPY_S = 5.0
"""Of the disk of a copy: five failures within a minute bring the bypass."""


@dataclass(frozen=True, slots=True)
class Start:
    """What a shim starts with."""

    own: Config
    """Without the cluster's part."""
    config: Config
    contents: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """What the files hold, or held, that it was read from."""
    kept: Kept | None = None
    """The copy of the cluster's part that is in it."""
    faults: tuple[str, ...] = ()
    """Why a copy of the cluster's part is not used."""
    file_error: ConfigError | None = None
    """Why the file is not used, if it is not: the last good configuration is."""
    good_at: float = 0.0
    """When that was kept (seconds since 1970)."""


def begin(path: str) -> Start:
    """All that counts. Raises ConfigError where neither the file nor a copy of it can be used."""
    start = own_start(path)
    held = start.contents if start.file_error else {}
    return with_kept(path, start, contents=held.get)


def own_start(path: str) -> Start:
    """The file, or else its copy, without the cluster's part. Raises ConfigError.

    A disk that does not answer is waited for where there is no copy.
    """
    tried, good, faults = _tried(path)
    if isinstance(tried.outcome, Config):
        return Start(tried.outcome, tried.outcome, tried.contents)
    if good is None:
        raise _and(tried.outcome, faults)
    again = attempt_good(path, good.contents)
    if isinstance(again.outcome, ConfigError):
        reasons = (f"the last good configuration is none: {one}" for one in again.outcome.faults)
        raise _and(tried.outcome, tuple(reasons))
    # What is watched is the file: it may be mended.
    config = replace(again.outcome, files=tried.stamps)
    return Start(config, config, again.contents, None, (), tried.outcome, good.kept_at)


def in_time(path: str, read: Callable[[], _T]) -> _T:
    """What `read` gives of the configuration at `path`. Raises SilentFileError after SILENT_S."""
    try:
        return threads.in_time(read, threads.SILENT_S)
    except TimeoutError:
        raise SilentFileError(path) from None


def _tried(path: str) -> tuple[Attempt, LastGood | None, tuple[str, ...]]:
    """The file, or why it is not used; then its copy, if there is one, and why one is not used."""
    try:
        tried = in_time(path, partial(attempt, path))
    except SilentFileError as silent:
        good, faults = _recalled(path)
        if good is not None:
            return Attempt(silent, (), {}), good, faults
        _log.warning(
            "%s; it is waited for: no copy of the configuration is known%s",
            "; ".join((str(silent), *faults)),
            _NO_FOLDER if silent.file == path else "",
        )
        tried = attempt(path)
    if isinstance(tried.outcome, Config):
        return tried, None, ()
    return tried, *_recalled(path, tried.contents.get)


def _recalled(
    path: str, contents: Contents = lambda _: None
) -> tuple[LastGood | None, tuple[str, ...]]:
    """`recall_good`, without a copy from a disk that does not answer."""
    try:
        return threads.in_time(partial(recall_good, path, contents), _COPY_S)
    except TimeoutError:
        return None, (f"stateDir: {not_answering('the last good configuration')}",)


def with_kept(
    path: str, start: Start, *, folder: str = "", contents: Contents = lambda _: None
) -> Start:
    """`start`, loaded from `path`, with the copy of the cluster's part over it, if usable.

    `contents` has what the files hold, or held; `folder` where the copy is, on another root.
    """
    own, folder = start.own, folder or start.own.state_dir
    if not own.kubernetes.enabled:
        return start
    # A node without a part from the cluster does not load what reads it.
    from shimcore.cluster.documents import recall  # noqa: PLC0415
    from shimcore.config.state import StateError  # noqa: PLC0415

    try:
        kept = threads.in_time(partial(recall, folder, own.kubernetes), threads.SILENT_S)
    except StateError as error:
        return replace(start, faults=(str(error),))
    except TimeoutError:
        fault = (
            f"stateDir: {folder}: it does not answer; the API server alone tells the cluster's part"
        )
        return replace(start, faults=(fault,))
    if kept is None or not kept.part.documents:
        return replace(start, kept=kept)
    outcome = attempt(path, kept.part, contents).outcome
    if isinstance(outcome, Config):
        return replace(start, config=replace(outcome, files=own.files), kept=kept)
    faults = (f"the kept copy is not used: {outcome.source}: {one}" for one in outcome.faults)
    return replace(start, faults=tuple(faults))


def _and(error: ConfigError, reasons: tuple[str, ...]) -> ConfigError:
    more = (ConfigFault("", reason) for reason in reasons)
    return ConfigError(error.source, (*error.faults, *more))
