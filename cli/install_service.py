"""`install-service` and `uninstall-service`: the systemd units, and kubelet's way to the shim."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from cli import exits
from cli.completions import PROGRAM, Shell, script
from cli.defaults import DEFAULT_FILE
from cli.options import FileOption, named_file
from shimcore.errors import RuntimeUnavailableError, ShimError

if TYPE_CHECKING:
    from shimcore.client.handover import RunningService
    from shimcore.systemd.changes import Change
    from shimcore.systemd.install import Plan, Request
    from shimcore.systemd.root import Root
    from shimcore.systemd.systemctl import ServiceControl

_DIFF_STYLES = {"+": "green", "-": "red", "@": "cyan"}

RootOption = Annotated[
    str | None, typer.Option("--root", metavar="DIR", help="Work on an unpacked image at DIR.")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Show what would change as a diff, and change nothing.")
]


def install_service(
    context: typer.Context,
    file: FileOption = None,
    now: Annotated[
        bool, typer.Option("--now", help="Start the service, restart what is pointed at it.")
    ] = False,
    wire_kubelet: Annotated[
        bool, typer.Option("--wire-kubelet", help="Point kubelet and crictl at the shim.")
    ] = False,
    wire_runtime: Annotated[
        bool,
        typer.Option("--wire-runtime", help="Tell the runtime how to reach the registries."),
    ] = False,
    dry_run: DryRunOption = False,
    root: RootOption = None,
    command: Annotated[
        str | None,
        typer.Option("--command", metavar="FILE", help="The command that the unit starts."),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Overwrite files changed by hand; wire kubelet while doctor fails."
        ),
    ] = False,
) -> None:
    """Install and enable the systemd service, and with --wire-kubelet put it to use.

    Writes the units, and a configuration to fill in where there is none. With --wire-runtime
    the container runtime learns of registries with plain http, an authority of their own or
    insecureSkipVerify; with --now it reads that at once (containerd is restarted if its own
    configuration changed, which no pod notices; docker never is). Running it again changes
    nothing more. Exit status: 0 done; 1 not.
    """
    with exits.reported(bad_config=exits.FAILED), _addition_shown():
        from shimcore.systemd import install, kubelet  # noqa: PLC0415 - a fast --help
        from shimcore.systemd.command import command_path  # noqa: PLC0415

        place = _root(root)
        control = None if dry_run else _control(place, root)
        path = _file(context, file, place)
        request = install.Request(
            root=place,
            config_file=path,
            command=os.path.abspath(command) if command else command_path(place),
            completions=completion_files(),
            wire_kubelet=wire_kubelet,
            wire_runtime=wire_runtime,
            force=force,
            preview=dry_run,
        )
        kubelets = kubelet.running_command_line() if place.is_machine else None
        plan = install.plan(request, kubelets)
        if plan.filled and place.is_machine:
            _check_configuration(path, plan.notes, request)
        if dry_run:
            _show(place, plan.changes)
        else:
            if not plan:
                print("everything is installed already")
            ready = (lambda: None) if force else partial(_examine, path)
            running = _running_service(path, request.command) if now else None
            _say(install.install(plan, control, now=now, before_kubelet=ready, running=running))
        _conclude(plan, now=now, asked=now or wire_kubelet or wire_runtime, dry_run=dry_run)


def uninstall_service(
    context: typer.Context,
    file: FileOption = None,
    _now: Annotated[
        bool, typer.Option("--now", hidden=True, help="As without it; earlier versions needed it.")
    ] = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="Remove the configuration, too, if it was not there.")
    ] = False,
    dry_run: DryRunOption = False,
    root: RootOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Restore files that were changed by hand, too.")
    ] = False,
) -> None:
    """Stop and remove the service, and put back every file as it was.

    A kubelet that runs and was pointed at the shim is restarted before the shim ends: it is
    never without a runtime, and its pods run on. A containerd whose configuration is put back
    is restarted, too. Exit status: 0 done; 1 not.
    """
    with exits.reported(bad_config=exits.FAILED):
        from shimcore.systemd import uninstall  # noqa: PLC0415 - a fast --help

        place = _root(root)
        control = None if dry_run else _control(place, root)
        path = _file(context, file, place)
        removal = uninstall.plan_removal(place, path, purge=purge, force=force)
        for note in removal.notes:
            exits.say(note)
        if removal.record is None:
            print("nothing is installed")
        elif dry_run:
            _show(place, removal.changes)
        else:
            _say(uninstall.uninstall(removal, control))


@contextmanager
def _addition_shown() -> Iterator[None]:
    """What is left to the operator to write: as text to copy, after the reason."""
    from shimcore.systemd.overlay import NotOursError  # noqa: PLC0415 - as above

    try:
        yield
    except NotOursError as error:
        exits.say(f"{error.reason}; add what follows, then run this command again")
        print(error.addition, end="")
        raise typer.Exit(exits.FAILED) from error


def _file(context: typer.Context, file: str | None, root: Root) -> str:
    """The file named, else that of the service which is installed, else the default."""
    from shimcore.systemd.places import installed_file  # noqa: PLC0415 - as above

    return os.path.abspath(named_file(context, file) or installed_file(root) or DEFAULT_FILE)


def _root(named: str | None) -> Root:
    from shimcore.systemd.root import Root  # noqa: PLC0415 - as above

    directory = named or "/"
    if not os.path.isdir(directory):
        raise ShimError(f"--root: {directory} is not a directory")
    return Root(directory)


def _control(root: Root, named: str | None) -> ServiceControl | None:
    """systemd of this machine; None for an unpacked image. Raises ShimError.

    None too for a `/` that was named and has no systemd that runs: one that was entered (chroot).
    """
    from shimcore.systemd.systemctl import this_machine  # noqa: PLC0415 - as above

    if not root.is_machine:
        return None
    try:
        control = this_machine()
    except ShimError:
        if not named:
            raise
        control = None
    if os.geteuid() != 0:
        raise ShimError("only root can do this; try it with sudo, or look with --dry-run")
    return control


def _examine(path: str) -> None:
    """Raises ShimError while something fails without which a kubelet here has no images."""
    from cli.waiting import answer_of  # noqa: PLC0415 - as above
    from shimcore.doctor.run import BEFORE_KUBELET, failing  # noqa: PLC0415

    found = answer_of(failing(path, BEFORE_KUBELET), "looking at the node")
    for finding in found:
        exits.say(f"FAIL {finding.check}: {finding.detail}; mend: {finding.mend}")
    if found:
        raise ShimError("kubelet is as it was: mend this first, or use --force")


def _running_service(path: str, command: str) -> RunningService:
    from shimcore.client.admin import running_endpoint  # noqa: PLC0415 - as above
    from shimcore.client.handover import RunningService  # noqa: PLC0415

    return RunningService(running_endpoint(path), command)


def completion_files() -> dict[str, str]:
    """The completion scripts of an installation: path → text."""
    share = "/usr/local/share"
    return {
        f"{share}/bash-completion/completions/{PROGRAM}": script(Shell.BASH),
        f"{share}/zsh/site-functions/_{PROGRAM}": script(Shell.ZSH),
        f"{share}/fish/vendor_completions.d/{PROGRAM}.fish": script(Shell.FISH),
    }


def _check_configuration(path: str, notes: list[str], request: Request) -> None:
    """Raises ShimError for a configuration, or a command, that the service could not start with.

    `notes` are said before one that does not name the runtime, which may be what they name.
    """
    from cli.waiting import answer_of  # noqa: PLC0415 - as above
    from shimcore.cluster.checking import files_of  # noqa: PLC0415
    from shimcore.config import load  # noqa: PLC0415
    from shimcore.runtime.detection import detect_socket  # noqa: PLC0415
    from shimcore.runtime.errors import SeveralRuntimesError  # noqa: PLC0415
    from shimcore.systemd.places import check_files  # noqa: PLC0415

    config = load(path)
    for notice in config.notices:
        exits.say(f"{path}: {notice}")
    check_files([request.command, *files_of(config)], request.root)
    if config.runtime_socket is None and not config.force:
        try:
            answer_of(detect_socket(), "looking for the runtime")
        except SeveralRuntimesError:
            for note in notes:
                exits.say(note)
            raise
        except RuntimeUnavailableError:
            pass  # it may come later


def _conclude(plan: Plan, *, now: bool, asked: bool, dry_run: bool) -> None:
    for note in plan.notes:
        exits.say(note)
    if plan.by_hand and now and not dry_run:
        raise ShimError(f"kubelet is to be wired by hand now: {plan.by_hand}")
    if plan.by_hand:
        exits.say(f"kubelet is wired by hand here, once the service runs: {plan.by_hand}")
    if plan.filled or dry_run:
        return
    if asked:
        raise ShimError(
            f"{plan.config_file}: fill in `address`, then run this command again; "
            "nothing was started, and kubelet is as it was"
        )
    print(f"next: fill in `address` in {plan.config_file}, then install-service --now")


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


def _show(root: Root, changes: list[Change]) -> None:
    """The diff, coloured on a terminal."""
    from shimcore.systemd.changes import diff  # noqa: PLC0415 - as above

    lines = [line for change in changes for line in diff(root, change)]
    if not lines:
        print("nothing would change")
    elif not sys.stdout.isatty():
        print("\n".join(lines))
    else:
        from rich.console import Console  # noqa: PLC0415 - slow to import
        from rich.text import Text  # noqa: PLC0415

        console = Console(highlight=False, markup=False, emoji=False)
        for line in lines:
            style = "bold" if line.startswith(("---", "+++")) else _DIFF_STYLES.get(line[:1], "")
            console.print(Text(line, style), soft_wrap=True)
