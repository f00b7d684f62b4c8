"""Having the runtime read its changed files, and taking them back if it does not come up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from shimcore.errors import RuntimeUnavailableError, ShimError
from shimcore.systemd.changes import Change, Part
from shimcore.systemd.entries import Entry, write
from shimcore.systemd.root import Root
from shimcore.systemd.systemctl import ServiceControl, began_at, main_process

ANSWER_TIMEOUT_S = 60.0
"""How long a restarted runtime has for its first answer over CRI."""

Answers = Callable[[str], bool]


def cri_answers(runtime_socket: str) -> bool:
    """Whether the runtime says its version over CRI within the time."""
    from shimcore.runtime.client import RuntimeClient  # noqa: PLC0415 - grpc is slow to import
    from shimcore.runtime.errors import RuntimeCallError  # noqa: PLC0415
    from shimcore.runtime.readiness import retried  # noqa: PLC0415

    async def ask() -> None:
        async with RuntimeClient(runtime_socket) as client:
            await client.version(5)

    def may_pass(error: BaseException) -> bool:
        return isinstance(error, (RuntimeUnavailableError, RuntimeCallError))

    try:
        asyncio.run(retried(ask, may_pass, ANSWER_TIMEOUT_S, lambda _: None))
    except (RuntimeUnavailableError, RuntimeCallError):
        return False
    return True


def to_read(unread: Iterable[str], changes: Iterable[Change]) -> list[str]:
    """What has the runtime read these changes and what it has not read yet, each once."""
    return list(dict.fromkeys([*unread, *(change.then for change in changes if change.then)]))


def unread_by_age(root: Root, backs: Iterable[Change], proc: Path = Path("/proc")) -> list[str]:
    """What has the runtime read those of our files that are younger than its process.

    1.0.0 did not note what was still to be read; until 2.0. Nothing runs in an unpacked image.
    """
    of_runtime = (back for back in backs if root.is_machine and back.part is Part.RUNTIME)
    return to_read((), (back for back in of_runtime if back.then and _is_younger(root, back, proc)))


def _is_younger(root: Root, back: Change, proc: Path) -> bool:
    """Also where that cannot be told; not where nothing runs."""
    try:
        number = main_process(back.then.partition(" ")[2])
        return number != 0 and root.host(back.path).stat().st_mtime > began_at(proc / str(number))
    except FileNotFoundError:
        return False
    except (OSError, ValueError, IndexError):
        return True


def reread(control: ServiceControl, thens: Sequence[str], *, now: bool) -> Iterator[str]:
    """Do what has files read (`Change.then`); yields a line for each thing done.

    Raises ShimError.
    """
    for then in thens:
        verb, unit = then.split(" ")
        if not control.is_active(unit):
            yield f"{unit} will read its new configuration when it is started"
        elif not now:
            yield f"{unit} reads its new configuration after: systemctl {then}"
        else:
            control.run(verb, unit)
            yield f"{unit} {verb}ed: it has read its files"


def to_restart(control: ServiceControl, thens: Sequence[str]) -> list[str]:
    """The units that run and have to be restarted."""
    named = (then.split(" ") for then in thens if then.startswith("restart "))
    return [unit for _, unit in named if control.is_active(unit)]


def reread_or_take_back(
    root: Root,
    control: ServiceControl,
    thens: Sequence[str],
    before: Mapping[str, Entry | None],
    answers: Callable[[], bool],
) -> Iterator[str]:
    """As `reread` at once; a runtime that does not answer afterwards gets its files back.

    `before` has what was there. Raises ShimError then.
    """
    restarted = to_restart(control, thens)
    failure = ""
    try:
        yield from reread(control, thens, now=True)
    except ShimError as error:
        failure = str(error)
    if not restarted or (not failure and answers()):
        if failure:
            raise ShimError(failure)
        return
    for path, entry in before.items():
        write(root, path, entry)
    unit = restarted[0]
    control.run("restart", unit)
    raise ShimError(
        f"{unit} did not answer over CRI within {ANSWER_TIMEOUT_S:.0f} s with its new "
        f"configuration{f' ({failure})' if failure else ''}; {', '.join(before)} "
        "is as it was, and it was started again; kubelet is as it was"
    )
