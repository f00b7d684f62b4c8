"""The admin client: asks the running shim over its admin socket (`shimcore.daemon.admin`)."""

from __future__ import annotations

import errno
import os
import shlex
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from typing import Any

from shimcore.client.facts import call_facts, config_facts, nothing, pull_facts, status_facts
from shimcore.cluster.starting import own_start
from shimcore.config.document import mapping_of, read_document
from shimcore.config.files import Files, UnreadableFileError, not_answering
from shimcore.config.load import attempt
from shimcore.config.provenance import Value
from shimcore.config.reading import texts
from shimcore.errors import AdminError, ConfigError
from shimcore.images.journals import Serving, serving
from shimcore.systemd.bypass import SIGN
from shimcore.systemd.kubelet_way import KubeletWay, Way, kubelet_way
from shimcore.systemd.places import DEFAULT_SHIM
from shimcore.systemd.root import Root
from shimcore.systemd.units import STATE_DIR, UnitSettings
from shimcore.threads import in_time
from shimcore.unixsocket import connection_error, socket_path

DEFAULT_FILE = UnitSettings().config_file
ANSWER_S = 5.0


class Condition(StrEnum):
    """How the service is, as an operator needs to know it."""

    SERVING = "serving"
    STARTING = "starting"
    DEGRADED = "degraded"
    BYPASS = "bypass"
    NOT_RUNNING = "not running"


@dataclass(frozen=True, slots=True)
class Status:
    """The answer of `status`: `facts` has the fixed keys of its JSON, `detail` says why."""

    condition: Condition
    facts: dict[str, Any]
    detail: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the shim of a configuration file is found.

    `runtime_socket` as it is named there; None where it is not. `guessed`: no file says what the
    sockets are, nor a copy of it. `denied`: this user may not read it, or its disk does not answer.
    `state_dir`: where it keeps its state.
    `changed`: the sockets are those of a shim that was started before the file had others;
    `named_shim` is then the `shim` of the file.
    """

    file: str
    shim_socket: str
    admin_socket: str
    runtime_socket: str | None = None
    denied: PermissionError | TimeoutError | None = None
    state_dir: str = STATE_DIR
    changed: bool = False
    named_shim: str | None = None
    guessed: bool = False

    def command(self, words: str) -> str:
        """The command of this program, as it is typed for the same configuration."""
        named = "" if self.file == DEFAULT_FILE else f" -f {shlex.quote(self.file)}"
        return f"image-cri-shim {words}{named}"


def endpoint_of(file: str) -> Endpoint:
    """The sockets that the configuration names, whatever else is in it; those of its last good copy
    where it cannot be read."""
    tree, files = None, Files(os.path.dirname(file))
    denied: PermissionError | TimeoutError | None = None
    try:
        tree, _ = read_document(in_time(partial(files.read_text, file), ANSWER_S))
    except UnreadableFileError as error:
        denied = error.__cause__ if isinstance(error.__cause__, PermissionError) else None
    except TimeoutError as error:
        denied = error
    guessed = not isinstance(tree, dict)
    if guessed and not isinstance(denied, TimeoutError):
        with suppress(ConfigError, TimeoutError):
            own = in_time(partial(own_start, file), ANSWER_S).own
            sockets = own.shim_socket, own.admin_socket, own.runtime_socket
            return Endpoint(file, *sockets, state_dir=own.state_dir)
    given = texts(mapping_of(tree))
    named = {key: socket_path(text) for key, text in given.items()}
    shim = named.get("shim", DEFAULT_SHIM)
    sockets = shim, named.get("admin", f"{shim}.admin"), named.get("cri")
    folder = files.resolve(given.get("stateDir", STATE_DIR))
    return Endpoint(file, *sockets, denied, folder, guessed=guessed)


def running_endpoint(file: str) -> Endpoint:
    """`endpoint_of`; but where the shim that runs has the sockets that the file had before, those.

    It says so beside its state, which a user who may not read that does not learn.
    """
    named, told = endpoint_of(file), list[Serving]()
    with suppress(TimeoutError):
        told = in_time(partial(serving, named.state_dir), ANSWER_S)
    for one in told:
        there = replace(named, shim_socket=one.shim_socket, admin_socket=one.admin_socket)
        lives = there != named and connection_error(one.admin_socket) is None
        if lives and _is_same(one.file, os.path.abspath(file)):
            if named.guessed:
                return there
            return replace(there, changed=True, named_shim=named.shim_socket)
    return named


def _is_same(one: str, other: str) -> bool:
    """Whether two paths are of one file, which may be by a symbolic link."""
    with suppress(OSError):
        return one == other or in_time(partial(os.path.samefile, one, other), ANSWER_S)
    return False


def _fault_of(file: str) -> str:
    """Why the file cannot be used, or is not while a disk does not answer; "" if it can be."""
    try:
        outcome = in_time(partial(attempt, file), ANSWER_S).outcome
    except TimeoutError:
        return not_answering(file)
    return outcome.reason if isinstance(outcome, ConfigError) else ""


def status(endpoint: Endpoint) -> Status:
    """How the shim at `endpoint` is. Raises AdminError where that cannot be found out."""
    bypassed = _is_bypassed(endpoint)
    problem = "" if bypassed else _absence(endpoint)
    kubelet = kubelet_way(Root(), endpoint.shim_socket)

    def unknown() -> dict[str, Any]:
        return nothing(endpoint.file, _fault_of(endpoint.file), endpoint.shim_socket, kubelet)

    if bypassed:
        why = "the shim does not start; its socket goes to the runtime as it is (onFailure)"
        return Status(Condition.BYPASS, unknown(), (why,))
    if problem:
        return Status(Condition.NOT_RUNNING, unknown(), (problem,))
    try:
        answer = ask(endpoint.admin_socket, "Status")
    except AdminError as error:
        return Status(Condition.DEGRADED, unknown(), (str(error),))
    facts = status_facts(answer, kubelet)
    if answer.starting:
        detail = [answer.runtime.detail] if answer.runtime.detail else []
        return Status(Condition.STARTING, facts, tuple(detail))
    detail = _details(endpoint, answer, facts, kubelet)
    return Status(Condition.DEGRADED if detail else Condition.SERVING, facts, tuple(detail))


def _is_bypassed(endpoint: Endpoint) -> bool:
    """Whether the bypass serves; its sign alone says so while the file does not answer.

    Raises AdminError.
    """
    if not os.path.isdir(SIGN) or not _knock(endpoint.admin_socket):
        return False
    silent = isinstance(endpoint.denied, TimeoutError)
    return silent or not _knock(endpoint.shim_socket, "socket")


@dataclass(frozen=True, slots=True)
class Vitals:
    """What tells whether a shim does its work, and which one it is.

    `started_at` is the same for as long as it is the same process; `calls` by gRPC path.
    """

    version: str
    started_at: float
    runtime_ready: bool
    runtime_socket: str
    config_valid: bool
    calls: dict[str, int]


def vitals(endpoint: Endpoint) -> Vitals | None:
    """Those of the running shim; None while none serves. Raises AdminError."""
    if _absence(endpoint):
        return None
    answer = ask(endpoint.admin_socket, "Status")
    if answer.starting or not answer.serving:
        return None
    return Vitals(
        version=answer.shim_version,
        started_at=answer.started_at.ToNanoseconds() / 1e9,
        runtime_ready=answer.runtime.ready,
        runtime_socket=answer.runtime.socket,
        config_valid=answer.config.valid,
        calls=dict(answer.calls_by_method),
    )


def _details(
    endpoint: Endpoint, answer: Any, facts: dict[str, Any], kubelet: KubeletWay
) -> list[str]:
    """What is not as it should be."""
    detail = []
    if endpoint.changed:
        detail.append(
            f"{endpoint.file} has another shim or admin socket by now: admin counts from the next"
            f" start on, shim from {endpoint.command('install-service --now')} on"
        )
    if not facts["serving"]:
        detail.append("the shim is stopping: running calls may end, new ones are refused")
    if not facts["runtime"]["ready"]:
        detail.append(f"the runtime is not ready: {answer.runtime.detail}")
    if not facts["config"]["valid"]:
        detail.append(
            f"{answer.config.file} cannot be used, an older configuration is in force: "
            f"{answer.config.error}"
        )
    detail += answer.config.unused_logins
    detail += _kubernetes_details(facts["config"].get("kubernetes"))
    if facts["config"]["valid"] and (fault := _fault_of(endpoint.file)):
        detail.append(f"{endpoint.file} cannot be used: {fault}")
    if not any(registry["usable"] for registry in facts["registries"]):
        detail.append("no registry can be used: images come from their own registries, or not")
    if kubelet.way is Way.NOT_WIRED:
        uses = kubelet.endpoint or "another endpoint"
        past = f"it uses {uses} and its pulls pass the shim by"
        if kubelet.sandboxes_alone:
            past = f"its sandboxes come here, its images do not (they go to {uses})"
        wire = endpoint.command("install-service --wire-kubelet --now")
        detail.append(f"kubelet is NOT wired: {past}; {kubelet.detail or f'{wire} mends it'}")
    return detail


def _kubernetes_details(state: dict[str, Any] | None) -> list[str]:
    """What an operator has to know of the cluster's part, if it is not as it should be."""
    if state is None:
        return []
    details = []
    if state["error"]:
        details.append(
            f"what the cluster says cannot be used, what it said before stays: {state['error']}"
        )
    if state["detail"]:
        details.append(f"Kubernetes is {state['state']}: {state['detail']}")
    return details


def is_there(endpoint: Endpoint) -> bool:
    """Whether a shim answers on the admin socket. Raises AdminError where that cannot be known."""
    return not _absence(endpoint)


def _absence(endpoint: Endpoint) -> str:
    """Why no shim answers; empty when one does. Raises AdminError where that cannot be known."""
    why = _knock(endpoint.admin_socket)
    if why and endpoint.denied is not None:
        text = "permission denied; run this as root"
        if isinstance(endpoint.denied, TimeoutError):
            text = "it does not answer, so it is not known where its shim listens"
        raise AdminError(f"{endpoint.file}: {text}") from endpoint.denied
    return why


def _knock(path: str, what: str = "admin socket") -> str:
    """Why nobody is at a socket; empty when somebody listens.

    Raises AdminError where this user may not know.
    """
    error = connection_error(path)
    if error is None:
        return ""
    if isinstance(error, PermissionError):
        raise AdminError(f"{what} {path}: permission denied; run this as root") from error
    if error.errno == errno.ENOENT:
        return f"nothing listens at {path}: there is no such socket"
    if error.errno == errno.ECONNREFUSED:
        return f"nothing listens at {path}: a shim that served it has died"
    raise AdminError(f"{what} {path}: {error.strerror or error}") from error


class StartingError(AdminError):
    """The shim does not serve yet: it cannot tell of what it has not got."""


class UnknownCallError(AdminError):
    """The shim is of a version that does not know the call."""


def ask(path: str, method: str, timeout_s: float = ANSWER_S, **fields: int | str) -> Any:
    """The answer to a request with these fields.

    Raises AdminError, StartingError, UnknownCallError.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    import grpc  # noqa: PLC0415 - slow to import, and not needed where nobody is at home

    from shimcore.pb import admin_pb2  # noqa: PLC0415

    request = getattr(admin_pb2, f"{method}Request")(**fields)
    answer = getattr(admin_pb2, f"{method}Response")
    with grpc.insecure_channel(
        f"unix:{path}", options=(("grpc.default_authority", "localhost"),)
    ) as channel:
        call: Any = channel.unary_unary(
            f"/imagecrishim.admin.v1.Admin/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        try:
            return call(request, timeout=timeout_s)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                raise StartingError(f"the shim is {error.details()}") from error
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                raise UnknownCallError(f"the shim does not know {method}") from error
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                text = f"no answer within {timeout_s:g} s: the shim hangs or is stopped"
            else:
                text = f"{error.code().name.lower()}: {error.details()}"
            raise AdminError(f"admin socket {path}: {text}") from error


@dataclass(frozen=True, slots=True)
class Shown:
    """A configuration in force: its state, itself as YAML (no secrets), each value's origin."""

    state: dict[str, Any]
    yaml: str
    values: tuple[Value, ...]


def show_config(endpoint: Endpoint) -> Shown | None:
    """The configuration of the running shim; None without one that serves. Raises AdminError."""
    if _absence(endpoint):
        return None
    try:
        answer = ask(endpoint.admin_socket, "ShowConfig")
    except StartingError:
        return None
    return shown_of(answer)


def shown_of(answer: Any) -> Shown:
    """What an answer to ShowConfig says."""
    values = tuple(Value(one.key, one.value, one.origin) for one in answer.values)
    return Shown(config_facts(answer.config), answer.yaml, values)


@dataclass(frozen=True, slots=True)
class History:
    """Image calls that have ended, the oldest first, and pulls under way; their fixed keys.

    `last` is the number of the newest call there is, as `process` counts; "" for one of 1.0.0.
    """

    calls: list[dict[str, Any]]
    pulls: list[dict[str, Any]]
    last: int
    process: str


def history(endpoint: Endpoint, before: History | None = None) -> History | None:
    """What the running shim remembers; None without one. Raises AdminError.

    Calls that were there `before` are left out, unless another process serves since.
    """
    if _absence(endpoint):
        return None
    answer = ask(endpoint.admin_socket, "History", after=before.last if before else 0)
    if before and (answer.process != before.process or answer.last < before.last):
        answer = ask(endpoint.admin_socket, "History")
    calls = [call_facts(call) for call in answer.calls]
    pulls = [pull_facts(pull) for pull in answer.pulls]
    return History(calls, pulls, answer.last, answer.process)
