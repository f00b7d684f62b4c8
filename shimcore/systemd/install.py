"""Installing the service: what has to change, and doing it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Protocol

from shimcore.errors import ShimError
from shimcore.runtime.peer import peer_of
from shimcore.systemd import kubelet, packaged, places, record, units, wiring
from shimcore.systemd.changes import Change, Changes, kubelet_unit, pending, restart_kubelet
from shimcore.systemd.entries import Entry, File, Link, read, write
from shimcore.systemd.kubelet_way import kubelet_way
from shimcore.systemd.places import (
    DEFAULT_SHIM,
    path_of,
    runtime_socket,
    sockets,
)
from shimcore.systemd.record import Record
from shimcore.systemd.root import Root
from shimcore.systemd.runtimes import node
from shimcore.systemd.runtimes.distributions import embedded_kubelet
from shimcore.systemd.runtimes.registries import to_tell
from shimcore.systemd.runtimes.rereading import (
    Answers,
    cri_answers,
    reread,
    reread_or_take_back,
    to_read,
)
from shimcore.systemd.runtimes.wiring import containerd_on, wire_runtime
from shimcore.systemd.systemctl import ServiceControl
from shimcore.systemd.units import (
    BYPASS,
    BYPASS_LINK,
    SERVICE,
    SOCKET,
    UNITS,
    UnitSettings,
    template,
)

# How long `--now` waits for the service to be ready. It goes on by itself after that.
START_TIMEOUT_S = 90.0
_ENABLED = {
    f"{UNITS}/multi-user.target.wants/{SERVICE}": f"{UNITS}/{SERVICE}",
    f"{UNITS}/sockets.target.wants/{SOCKET}": f"{UNITS}/{SOCKET}",
}


@dataclass(frozen=True, slots=True)
class Request:
    """What the operator wants; paths are inside `root`."""

    root: Root
    config_file: str
    command: str
    completions: Mapping[str, str] = field(default_factory=dict)
    """Completion scripts: path → text."""
    wire_kubelet: bool = False
    wire_runtime: bool = False
    force: bool = False
    """Files of an earlier installation that were changed by hand may be overwritten."""
    preview: bool = False
    """Plan what would follow once the configuration is filled in, too."""


class Running(Protocol):
    """The service that runs, as its own clients see it."""

    def is_other_version(self) -> bool:
        """Whether what runs is not of this version."""

    def hand_over_or_restart(self, control: ServiceControl) -> str:
        """Have the installed command serve; what was done. Raises ShimError."""


@dataclass(slots=True)
class Plan(Changes):
    """Everything that is not yet as it should be."""

    config_file: str
    filled: bool
    """Whether the configuration names a hub; without that nothing can be started."""
    bypass: bool
    """Whether the socket may lead past a shim that does not start."""
    runtime: str | None
    """Where it leads then, as far as that is known."""
    stale_kubelet: str = ""
    """The unit of a kubelet that runs and has not read yet that its files point at the shim."""
    by_hand: str = ""
    """What the operator has to do for kubelet to use the shim; "" for nothing."""
    unread: list[str] = field(default_factory=list)
    """What has the runtime read files of an earlier run (`Change.then`), which it has not yet."""

    def __bool__(self) -> bool:
        return bool(self.changes or self.stale_kubelet or self.unread)

    def concerns(self, *names: str) -> bool:
        """Whether one of these units changes."""
        return any(PurePosixPath(change.path).name in names for change in self.changes)


def plan(request: Request, running_kubelet: Sequence[str] | None = None) -> Plan:
    """What `install-service` would do. Changes nothing. Raises ShimError."""
    root = request.root
    notes: list[str] = []
    known = record.load(root) or Record()
    values = places.settings(root, request.config_file)
    is_new = root.text(request.config_file) is None
    filled = "address" in values
    settings = _settings(request, values)
    shim = settings.shim_socket
    wired: list[Change] = []
    endpoint = None
    by_hand = ""
    wires = filled or request.preview
    inside = embedded_kubelet(root, shim) if request.wire_kubelet else None
    if inside is not None:
        if not inside.wired and wires:
            wired = list(inside.changes)
            by_hand = inside.advice
        if wires:
            wired += wiring.wire_crictl(root, shim)
    elif request.wire_kubelet:
        found = kubelet.find(root, running_kubelet, wiring.own_drop_ins(root))
        endpoint = _runtime_of(found, shim)
        if wires:
            wired = wiring.wire(root, found, shim)
        if endpoint and not is_new and not values.get("cri") and _others(root, endpoint):
            notes.append(f"kubelet used {endpoint}, others are there: set `cri: {endpoint}`")
    elif is_new:
        endpoint = _known_endpoint(root, running_kubelet)
    runtime = runtime_socket(root, values.get("cri") or endpoint)
    told: list[Change] = []
    if request.wire_runtime and filled:
        told, said = _tell_runtime(request, runtime)
        notes += said
    changes = _own(request, known, settings, template(endpoint) if is_new else None)
    changes = pending(root, [*changes, *told, *wired])
    if not request.force:
        _refuse_changed_by_hand(root, known, changes)
    usual = "closed" if values.get("fallback") == "deny" else "bypass"
    bypass = filled and values.get("onFailure", usual) == "bypass"
    way = kubelet_way(root, shim) if request.wire_kubelet else None
    stale = way.unit if way is not None and way.stale else ""
    return Plan(
        root,
        changes,
        notes,
        request.config_file,
        filled,
        bypass,
        runtime,
        stale,
        by_hand,
        known.unread,
    )


def install(
    plan: Plan,
    control: ServiceControl | None,
    *,
    now: bool,
    answers: Answers = cri_answers,
    before_kubelet: Callable[[], None] = lambda: None,
    running: Running | None = None,
) -> Iterator[str]:
    """Carry the plan out; yields a line for each thing done. Raises ShimError.

    `control` is None for an unpacked image. `now` has the runtime read its files, starts the
    service, then restarts a kubelet that was pointed at it. `answers` says whether the runtime
    behind a socket came up again. `running` hands over where it is of another version or its unit
    changes. `before_kubelet` raises ShimError where a kubelet that is pointed here and restarted
    would not have its images.
    """
    root = plan.root
    if plan.changes:
        plan.refuse_read_only()
    known = record.load(root)
    kept = known or Record()
    if known is None and control is not None and packaged.unit_path(root, SERVICE):
        kept.was_active = control.is_active(SERVICE)
    socket_changes, service_changes = plan.concerns(SOCKET), plan.concerns(SERVICE)
    yield from _apply(plan, kept, plan.own)
    start = now and plan.filled and control is not None
    _lead_bypass(plan)
    if control is not None and plan.own:
        control.run("daemon-reload")
    yield from _to_runtime(plan, kept, control, answers, now=now)
    if start and control is not None:
        yield _start(control, socket_changes, service_changes, running)
        if plan.for_kubelet or plan.stale_kubelet or plan.by_hand:
            before_kubelet()
    yield from _apply(plan, kept, plan.wiring)
    if control is not None and plan.wiring:
        control.run("daemon-reload")
    if control is not None and (plan.for_kubelet or plan.stale_kubelet):
        yield _kubelet(control, plan.stale_kubelet or kubelet_unit(plan.wiring), now=now)


def _apply(plan: Plan, kept: Record, changes: Sequence[Change]) -> Iterator[str]:
    if not changes:
        return
    for change in changes:
        kept.add(plan.root, change)
    kept.save(plan.root)
    for change in changes:
        was_there = read(plan.root, change.path) is not None
        try:
            write(plan.root, change.path, change.entry)
        except ShimError as error:
            if not change.optional:
                raise
            yield f"left out: {error}"
        else:
            done = "removed" if change.entry is None else "changed" if was_there else "wrote"
            yield f"{done} {change.path}"


def _to_runtime(
    plan: Plan, kept: Record, control: ServiceControl | None, answers: Answers, *, now: bool
) -> Iterator[str]:
    """Write what the runtime is told, and have it read that and what it has not read yet.

    What is still to be read is in the record before a file is written: a run that ends here is
    taken up by the next.
    """
    root, changes = plan.root, plan.for_runtime
    thens = to_read(plan.unread, changes)
    before = {change.path: read(root, change.path) for change in changes}
    before |= _before_unread(plan, kept)
    if control is not None:
        kept.unread = thens
    yield from _apply(plan, kept, changes)
    if control is None or not thens:
        return
    if now and plan.runtime is not None:
        socket = plan.runtime
        yield from reread_or_take_back(root, control, thens, before, lambda: answers(socket))
    else:
        yield from reread(control, thens, now=now)
    if now:
        kept.unread = []
        kept.save(root)


def _before_unread(plan: Plan, kept: Record) -> dict[str, Entry | None]:
    """What was in those of our files that the runtime has not read yet."""
    return {
        path: each.back.entry
        for path, each in kept.files.items()
        if each.back.then in plan.unread and each.is_ours(read(plan.root, path))
    }


def _start(
    control: ServiceControl, socket_changes: bool, service_changes: bool, running: Running | None
) -> str:
    if socket_changes or not control.is_active(SOCKET):
        # A socket cannot be started beside a service that runs already. Both are stopped at
        # once: a connection that waits in the socket would start the service again.
        control.run("stop", SOCKET, SERVICE, BYPASS)
        control.run("start", SOCKET)
    elif running is not None and control.is_active(SERVICE):
        if service_changes or running.is_other_version():
            return running.hand_over_or_restart(control)
        return f"{SERVICE} runs"
    control.run("start", SERVICE, timeout_s=START_TIMEOUT_S)
    return f"{SERVICE} runs"


def _kubelet(control: ServiceControl, unit: str, *, now: bool) -> str:
    if not now and control.is_active(unit):
        return f"kubelet uses the shim after: systemctl start {SERVICE} && systemctl restart {unit}"
    return restart_kubelet(control, unit, "shim")


def _settings(request: Request, values: Mapping[str, str]) -> UnitSettings:
    shim = path_of("shim", values.get("shim", DEFAULT_SHIM))
    runtime = path_of("cri", values["cri"]) if "cri" in values else ""
    for name, path in (
        ("the command", request.command),
        ("the configuration", request.config_file),
        ("cri", runtime),
    ):
        if path.startswith(places.HIDDEN):
            raise ShimError(f"{name}: the service cannot see {path}; use another directory")
    return UnitSettings(
        command=request.command,
        config_file=request.config_file,
        shim_socket=shim,
        admin_socket=path_of("admin", values.get("admin", f"{shim}.admin")),
        state_dir=path_of("stateDir", values.get("stateDir", units.STATE_DIR)),
    )


def _own(
    request: Request, known: Record, settings: UnitSettings, config: str | None
) -> list[Change]:
    """The service's own files, with `config` its configuration."""
    texts = {
        SERVICE: units.service_text(settings),
        SOCKET: units.socket_text(settings),
        BYPASS: units.bypass_text(),
    }
    root = request.root
    package = packaged.place_of(root, texts, request.config_file)
    if package is not None:
        changes = packaged.changes(root, package, texts, _ENABLED, known)
    else:
        changes = [
            *(Change(f"{UNITS}/{name}", File(text.encode())) for name, text in texts.items()),
            *(Change(path, Link(target)) for path, target in _ENABLED.items()),
        ]
    if config is not None:
        changes.append(Change(request.config_file, File(config.encode(), 0o600)))
    completions = request.completions if package is None else {}  # the package has its own
    for path, text in completions.items():
        changes.append(Change(path, File(text.encode()), optional=True))
    return changes


def _others(root: Root, endpoint: str) -> bool:
    """Whether a runtime's socket is there that is not kubelet's."""
    return bool(set(sockets(root)) - {root.real(path_of("endpoint", endpoint))})


def _tell_runtime(request: Request, runtime: str | None) -> tuple[list[Change], list[str]]:
    """The changes, and what the operator should know."""
    root = request.root
    if runtime is None and len(there := sockets(root)) > 1:
        raise ShimError(
            f"there is more than one runtime: {', '.join(there.values())}; set `cri:` to the one "
            "that is to be told of the registries"
        )
    told, notes = to_tell(root, request.config_file)
    kind = node.kind_of(root, runtime)
    process = peer_of(runtime) if runtime and root.is_machine else None
    ours = record.written(root, changed=request.force)
    return wire_runtime(root, told, kind, lambda: containerd_on(root, kind, process), ours), notes


def _lead_bypass(plan: Plan) -> None:
    """Say where the bypass leads until the first good start, which knows better."""
    there = read(plan.root, BYPASS_LINK)
    if not plan.bypass:
        if there is not None:
            write(plan.root, BYPASS_LINK, None)
    elif there is None and plan.runtime is not None:
        write(plan.root, BYPASS_LINK, Link(plan.runtime))


def _runtime_of(found: kubelet.Kubelet, shim: str) -> str | None:
    """The endpoint that kubelet has, unless that is the shim's own already."""
    if not found.endpoint:
        return None
    same = units.modern(path_of("endpoint", found.endpoint)) == units.modern(shim)
    return None if same else found.endpoint


def _known_endpoint(root: Root, running: Sequence[str] | None) -> str | None:
    """What kubelet uses, on a machine that has one."""
    try:
        return _runtime_of(kubelet.find(root, running), DEFAULT_SHIM)
    except ShimError:
        return None  # no kubelet, or none that can be read: the runtime is looked for


def _refuse_changed_by_hand(root: Root, known: Record, changes: Sequence[Change]) -> None:
    changed = []
    for change in changes:
        recorded = known.files.get(change.path)
        now = read(root, change.path)
        if recorded and change.edit is None and now is not None and not recorded.is_ours(now):
            changed.append(change.path)
    if changed:
        raise ShimError(
            f"changed by hand since they were installed: {', '.join(changed)}; "
            "--force overwrites them (a unit is better changed with systemctl edit)"
        )
