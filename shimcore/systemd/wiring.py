"""What has to change so that kubelet and crictl talk to the shim."""

from __future__ import annotations

from collections.abc import Iterable

from shimcore.errors import ShimError
from shimcore.systemd import envfile, yamltext
from shimcore.systemd.changes import CRICTL, Change, Part
from shimcore.systemd.edits import FlagsEdit, KeysEdit
from shimcore.systemd.kubelet import (
    EXTRA_ARGS,
    FLAGS,
    KEYS,
    RUNTIME_FLAG,
    UNIT,
    Flag,
    Kubelet,
    Origin,
)
from shimcore.systemd.overlay import HEADER, Overlay
from shimcore.systemd.root import Root
from shimcore.systemd.unitfile import ServiceUnit, drop_ins

DROP_IN = "99-image-cri-shim.conf"
_OURS = ".image-cri-shim.conf"
UNIT_DROP_IN = f"/etc/systemd/system/{UNIT}.d/{DROP_IN}"
# From here `kubeadm upgrade` (1.32 and later) takes the endpoint into kubelet's configuration.
KUBEADM_INSTANCE = "/var/lib/kubelet/instance-config.yaml"
# In the command of a kubelet that minikube starts.
_MINIKUBE = "/minikube/"
_SHELLS = ("sh", "bash", "dash")
# systemd.syntax(7), Quoting.
_ESCAPED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r"})
CRICTL_KEYS = ("runtime-endpoint", "image-endpoint")


def wire(root: Root, kubelet: Kubelet, shim_socket: str) -> list[Change]:
    """The changes that point kubelet and crictl at the shim's socket. Raises ShimError."""
    endpoint = f"unix://{shim_socket}"
    overlay = Overlay(root, Part.WIRING)
    _flags(overlay, kubelet, endpoint)
    _configuration(overlay, kubelet, endpoint)
    if root.keys(KUBEADM_INSTANCE, KEYS[:1])[KEYS[0]] is not None:
        _keys(overlay, KUBEADM_INSTANCE, KEYS[:1], endpoint)
    return [*overlay.changes(), *wire_crictl(root, shim_socket)]


def own_drop_ins(root: Root) -> list[str]:
    """Those of kubelet's unit that an earlier installation wrote: of the command as it was then."""
    return [path for path in drop_ins(root, UNIT) if path.endswith((f"/{DROP_IN}", _OURS))]


def wire_crictl(root: Root, shim_socket: str) -> list[Change]:
    """The change that points crictl there. Raises ShimError."""
    overlay = Overlay(root, Part.WIRING)
    _keys(overlay, CRICTL, CRICTL_KEYS, f"unix://{shim_socket}")
    return overlay.changes()


def _flags(overlay: Overlay, kubelet: Kubelet, endpoint: str) -> None:
    """A flag wins over every file, so each that is there has to change."""
    # What a kubelet without any configuration file still needs.
    bare = not kubelet.config and not kubelet.config_dir and kubelet.value(RUNTIME_FLAG) is None
    adds = (RUNTIME_FLAG,) if bare else ()
    edited: dict[tuple[str, str], dict[str, str | None]] = {}
    in_unit = []
    for flag in kubelet.flags:
        if flag.origin is Origin.ENV_FILE:
            edited.setdefault((flag.file, flag.variable), {})[flag.name] = flag.value
        elif flag.origin is not Origin.ELSEWHERE:
            in_unit.append(flag)
        elif flag.value != endpoint:
            raise ShimError(
                f"kubelet runs with {flag.name}={flag.value}, which no systemd unit gives it; "
                f"change it to {endpoint} where kubelet is started"
            )
    if adds and kubelet.extra_args_file:
        key = (kubelet.extra_args_file, EXTRA_ARGS)
        edited.setdefault(key, {}).update(dict.fromkeys(adds))
        adds = ()
    elif adds and kubelet.unit is None:
        raise ShimError(
            f"kubelet runs without --config and without a systemd unit; give it "
            f"{RUNTIME_FLAG}={endpoint} where it is started"
        )
    for (path, variable), old in edited.items():
        addition = "".join(f"{name}={endpoint}\n" for name in old)
        overlay.edit(path, FlagsEdit(endpoint, old, variable), addition)
    changed = [flag for flag in in_unit if flag.value != endpoint]
    if kubelet.unit is not None and (changed or adds):
        if adds and kubelet.unit.program in _SHELLS:
            raise ShimError(
                f"kubelet is started by a shell, and without --config; give it "
                f"{RUNTIME_FLAG}={endpoint} in the command of {UNIT}"
            )
        if not kubelet.unit.exec_start:
            raise ShimError(
                f"{UNIT} has no ExecStart to which {RUNTIME_FLAG}={endpoint} could be added; "
                "give it one, or look in systemctl cat kubelet for what takes it away"
            )
        if _MINIKUBE in kubelet.unit.exec_start:
            raise ShimError(
                "minikube writes kubelet's unit anew at each start, with its version in it; wire "
                f"it by: minikube start --extra-config=kubelet.{RUNTIME_FLAG[2:]}={endpoint}"
            )
        name = _last(path.rpartition("/")[2] for path in drop_ins(overlay, UNIT))
        text = _unit_drop_in(kubelet.unit, changed, adds, endpoint)
        overlay.put(f"{UNIT_DROP_IN.rpartition('/')[0]}/{name}", text)


def _configuration(overlay: Overlay, kubelet: Kubelet, endpoint: str) -> None:
    if kubelet.config_dir:
        values = _values(KEYS, endpoint)
        kind = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"
        folder = kubelet.config_dir.rstrip("/")
        overlay.put(f"{folder}/{_last(overlay.names(folder))}", HEADER + kind + values)
    elif kubelet.config:
        if not overlay.exists(kubelet.config):
            raise ShimError(f"{kubelet.config}: kubelet is started with it, but it is not there")
        _keys(overlay, kubelet.config, KEYS, endpoint)


def _keys(overlay: Overlay, path: str, keys: tuple[str, ...], endpoint: str) -> None:
    edit = KeysEdit(endpoint, overlay.keys(path, keys))
    overlay.edit(path, edit, _values(keys, endpoint))


def _values(keys: tuple[str, ...], endpoint: str) -> str:
    return "".join(f"{key}: {yamltext.scalar(endpoint)}\n" for key in keys)


def _last(names: Iterable[str]) -> str:
    """Our name for a drop-in, after whichever of the others would win."""
    later = [name for name in names if name > DROP_IN and name.endswith(".conf")]
    others = [name for name in later if not name.endswith(_OURS)]
    return max(others).removesuffix(".conf") + _OURS if others else DROP_IN


def _unit_drop_in(
    unit: ServiceUnit, flags: list[Flag], adds: tuple[str, ...], endpoint: str
) -> str:
    """A drop-in of kubelet's unit with the unit's own settings, the flags in them changed."""
    command = unit.exec_start
    lines = []
    environment: dict[str, str] = {}
    for flag in flags:
        if flag.origin is Origin.EXEC_START:
            command = _replaced(command, flag.name, endpoint, c_escapes=True)
        else:
            value = environment.get(flag.variable) or unit.environment[flag.variable]
            environment[flag.variable] = _replaced(value, flag.name, endpoint)
    command += "".join(f" {flag}={endpoint}" for flag in adds)
    for name, value in environment.items():
        lines.append(f'Environment="{name}={value.translate(_ESCAPED)}"')
    if command != unit.exec_start:
        lines += ["ExecStart=", f"ExecStart={command}"]
    return (
        "# Written by image-cri-shim install-service: kubelet's own settings with the shim's\n"
        f"# socket in {' and '.join(FLAGS)}.\n[Service]\n" + "\n".join(lines) + "\n"
    )


def _replaced(text: str, flag: str, endpoint: str, *, c_escapes: bool = False) -> str:
    new = envfile.with_flag(text, flag, endpoint)
    if envfile.flag_value(envfile.words(new, c_escapes=c_escapes), flag) != endpoint:
        raise ShimError(f"{UNIT}: {flag} cannot be found in its text; change it by hand")
    return new
