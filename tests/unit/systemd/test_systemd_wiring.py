"""Many ways in which kubelet is started, and what changes in each."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from shimcore.errors import ShimError
from shimcore.systemd import kubelet
from shimcore.systemd.changes import pending
from shimcore.systemd.entries import File, write
from shimcore.systemd.overlay import NotOursError
from shimcore.systemd.wiring import UNIT_DROP_IN, own_drop_ins, wire
from tests.unit.systemd.machines import (
    CONTAINERD,
    KUBEADM,
    KUBEADM_CONFIG,
    KUBEADM_DROP_IN,
    KUBEADM_FLAGS,
    KUBELET_UNIT,
    ROOTS,
    SHIM,
    unpacked,
)
from tests.unit.systemd.wired import mount_read_only

UNIT = "/etc/systemd/system/kubelet.service"
SOCKET = "/var/run/image-cri-shim.sock"
CRICTL = "/etc/crictl.yaml"


def unit(command: str, *more: str) -> str:
    lines = "\n".join([f"ExecStart={command}", *more])
    return f"[Unit]\nDescription=kubelet\n[Service]\n{lines}\n"


@dataclass(frozen=True)
class Layout:
    """A machine, kubelet's endpoint on it, and which files change."""

    files: dict[str, str]
    endpoint: str | None
    changed: set[str]
    running: list[str] | None = None
    values: dict[str, object] = field(default_factory=dict)


LAYOUTS = {
    "kubeadm": Layout(
        KUBEADM, CONTAINERD, {"/var/lib/kubelet/config.yaml", "/var/lib/kubelet/kubeadm-flags.env"}
    ),
    "kubeadm without the flag": Layout(
        {**KUBEADM, "/var/lib/kubelet/kubeadm-flags.env": 'KUBELET_KUBEADM_ARGS="--v=2"\n'},
        None,
        {"/var/lib/kubelet/config.yaml"},
    ),
    "kubeadm 1.32": Layout(
        {
            **KUBEADM,
            "/var/lib/kubelet/kubeadm-flags.env": "",
            "/var/lib/kubelet/instance-config.yaml": f"containerRuntimeEndpoint: {CONTAINERD}\n",
            "/var/lib/kubelet/config.yaml": KUBEADM_CONFIG.replace('""', CONTAINERD),
        },
        CONTAINERD,
        {"/var/lib/kubelet/config.yaml", "/var/lib/kubelet/instance-config.yaml"},
    ),
    "kubeadm, extra arguments win": Layout(
        {**KUBEADM, "/etc/default/kubelet": f"KUBELET_EXTRA_ARGS={kubelet.RUNTIME_FLAG}=/x.sock\n"},
        "/x.sock",
        {"/var/lib/kubelet/config.yaml", "/etc/default/kubelet"},
    ),
    "kubeadm files without a unit": Layout(
        {path: text for path, text in KUBEADM.items() if "systemd" not in path},
        CONTAINERD,
        {"/var/lib/kubelet/config.yaml", "/var/lib/kubelet/kubeadm-flags.env"},
    ),
    "drop-in directory": Layout(
        {
            UNIT: unit("/usr/bin/kubelet --config=/etc/k.yaml --config-dir=/etc/k.d"),
            "/etc/k.yaml": "a: 1\n",
            "/etc/k.d/10-a.conf": f"containerRuntimeEndpoint: {CONTAINERD}\n",
        },
        CONTAINERD,
        {"/etc/k.d/99-image-cri-shim.conf"},
    ),
    "drop-in directory with a later one": Layout(
        {
            UNIT: unit("/usr/bin/kubelet --config-dir=/etc/k.d"),
            "/etc/k.d/99-somebody.conf": f"containerRuntimeEndpoint: {CONTAINERD}\n",
        },
        CONTAINERD,
        {"/etc/k.d/99-somebody.image-cri-shim.conf"},
    ),
    "drop-in directory to come": Layout(
        {UNIT: unit("/usr/bin/kubelet --config-dir /etc/kubernetes/kubelet.conf.d")},
        None,
        {"/etc/kubernetes/kubelet.conf.d/99-image-cri-shim.conf"},
    ),
    "json configuration": Layout(
        {UNIT: unit("/usr/bin/kubelet --config /etc/k.json"), "/etc/k.json": '{"kind": "x"}'},
        None,
        {"/etc/k.json"},
    ),
    "flags, Debian": Layout(
        {
            UNIT: unit(
                "/usr/bin/kubelet $KUBELET_EXTRA_ARGS", "EnvironmentFile=-/etc/default/kubelet"
            ),
            "/etc/default/kubelet": 'KUBELET_EXTRA_ARGS="--node-ip=10.0.0.1"\n',
        },
        None,
        {"/etc/default/kubelet"},
    ),
    "flags, Fedora, no file yet": Layout(
        {
            UNIT: unit(
                "/usr/bin/kubelet $KUBELET_EXTRA_ARGS",
                "EnvironmentFile=-/etc/default/kubelet",
                "EnvironmentFile=-/etc/sysconfig/kubelet",
            ),
            "/etc/sysconfig/other": "",
        },
        None,
        {"/etc/sysconfig/kubelet"},
    ),
    "flags in the unit's command": Layout(
        {UNIT: unit(f"/usr/bin/kubelet {kubelet.RUNTIME_FLAG}={CONTAINERD} --v=2")},
        CONTAINERD,
        {UNIT_DROP_IN},
    ),
    "a quoted flag in the unit's command": Layout(
        {UNIT: unit(f'/usr/bin/kubelet {kubelet.RUNTIME_FLAG}="{CONTAINERD}" \\\n  --v=2')},
        CONTAINERD,
        {UNIT_DROP_IN},
    ),
    "flags in the unit's last drop-in": Layout(
        {
            UNIT: unit("/usr/bin/kubelet"),
            f"{UNIT}.d/99-somebody.conf": unit(f"kubelet {kubelet.RUNTIME_FLAG}={CONTAINERD}"),
        },
        CONTAINERD,
        {f"{UNIT}.d/99-somebody.image-cri-shim.conf"},
    ),
    "flags in the unit's environment": Layout(
        {
            UNIT: unit(
                "/usr/bin/kubelet $RUNTIME_ARGS",
                f'Environment="RUNTIME_ARGS={kubelet.RUNTIME_FLAG}={CONTAINERD} --v=2"',
            )
        },
        CONTAINERD,
        {UNIT_DROP_IN},
    ),
    "the same flag in a variable, and in the command after it": Layout(
        {
            UNIT: unit(
                f"/usr/bin/kubelet $RUNTIME_ARGS {kubelet.RUNTIME_FLAG}={CONTAINERD}",
                "EnvironmentFile=-/etc/default/kubelet",
            ),
            "/etc/default/kubelet": f"RUNTIME_ARGS={kubelet.RUNTIME_FLAG}={CONTAINERD}\n",
        },
        CONTAINERD,
        {UNIT_DROP_IN},
    ),
    "a variable that is one word": Layout(
        {
            UNIT: unit("/usr/bin/kubelet ${ENDPOINT}", "EnvironmentFile=-/etc/default/kubelet"),
            "/etc/default/kubelet": f"ENDPOINT={kubelet.RUNTIME_FLAG}={CONTAINERD}\n",
        },
        CONTAINERD,
        {"/etc/default/kubelet"},
    ),
    "a variable that is the value alone": Layout(
        {
            UNIT: unit(
                f"/usr/bin/kubelet {kubelet.RUNTIME_FLAG} ${{ENDPOINT}} --v=2",
                f"Environment=ENDPOINT={CONTAINERD}",
            ),
        },
        CONTAINERD,
        {UNIT_DROP_IN},
    ),
    "a quoted flag in an environment file": Layout(
        {
            UNIT: unit("/usr/bin/kubelet $ARGS", "EnvironmentFile=-/etc/default/kubelet"),
            "/etc/default/kubelet": "A=it's\n"
            f"ARGS='{kubelet.RUNTIME_FLAG}=\"{CONTAINERD}\" -v 2'\n",
        },
        CONTAINERD,
        {"/etc/default/kubelet"},
    ),
    "environment files by a pattern": Layout(
        {
            UNIT: unit("/usr/bin/kubelet $ARGS", "EnvironmentFile=-/etc/kube*/*let?.env"),
            "/etc/kubernetes/kubelet1.env": f"ARGS={kubelet.RUNTIME_FLAG}=/old.sock\n",
            "/etc/kubernetes/kubelet2.env": f"ARGS={kubelet.RUNTIME_FLAG}={CONTAINERD}\n",
            "/etc/kubernetes/.kubelet3.env": "ARGS=\n",
        },
        CONTAINERD,
        {"/etc/kubernetes/kubelet2.env"},
    ),
    "an environment file with the unit's name": Layout(
        {
            UNIT: unit("/usr/bin/kubelet $ARGS", "EnvironmentFile=-%E/default/%p"),
            "/etc/default/kubelet": f"ARGS={kubelet.RUNTIME_FLAG}={CONTAINERD}\n",
        },
        CONTAINERD,
        {"/etc/default/kubelet"},
    ),
    "a command without any flag": Layout(
        {UNIT: unit("/usr/bin/kubelet --v=2")}, None, {UNIT_DROP_IN}
    ),
    "both flags": Layout(
        {
            UNIT: unit(
                f"/usr/bin/kubelet {kubelet.RUNTIME_FLAG} {CONTAINERD} {kubelet.IMAGE_FLAG} /i.sock"
            )
        },
        CONTAINERD,
        {UNIT_DROP_IN},
    ),
    "no unit, but it runs": Layout(
        {"/srv/k.yaml": f"containerRuntimeEndpoint: {CONTAINERD}\n"},
        CONTAINERD,
        {"/srv/k.yaml"},
        running=["/srv/kubelet", "--config", "/srv/k.yaml"],
    ),
    "linked unit": Layout(
        {"/srv/kubelet.service": KUBELET_UNIT, "/srv/10.conf": KUBEADM_DROP_IN, **KUBEADM},
        CONTAINERD,
        {"/var/lib/kubelet/config.yaml", "/var/lib/kubelet/kubeadm-flags.env"},
    ),
    "wired by hand": Layout(
        {
            **KUBEADM,
            "/var/lib/kubelet/config.yaml": f"containerRuntimeEndpoint: {SHIM}\n"
            f"imageServiceEndpoint: {SHIM}\n",
            "/var/lib/kubelet/kubeadm-flags.env": KUBEADM_FLAGS.replace(CONTAINERD, SHIM),
        },
        SHIM,
        set(),
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_kubelet_is_pointed_at_the_shim(tmp_path: Path, layout: Layout) -> None:
    """The right files change, kubelet started again has the shim, and twice is once."""
    root = unpacked(tmp_path, layout.files)
    found = kubelet.find(root, layout.running)
    assert found.endpoint == layout.endpoint
    changes = pending(root, wire(root, found, SOCKET))
    assert {change.path for change in changes} == layout.changed | {CRICTL}
    for change in changes:
        write(root, change.path, change.entry)
    again = kubelet.find(root, layout.running)
    assert again.endpoint == SHIM
    assert all(flag.value == SHIM for flag in again.flags)
    assert pending(root, wire(root, again, SOCKET)) == []


def test_kubelets_own_settings_stay(tmp_path: Path) -> None:
    """The command line of a unit that is overridden keeps its other words."""
    command = f"/usr/bin/kubelet --a='b c' {kubelet.RUNTIME_FLAG}={CONTAINERD} --v=2"
    root = unpacked(tmp_path, {UNIT: unit(command)})
    for change in wire(root, kubelet.find(root), SOCKET):
        write(root, change.path, change.entry)
    assert f"ExecStart=\nExecStart={command.replace(CONTAINERD, SHIM)}\n" in (
        root.text(UNIT_DROP_IN) or ""
    )


def test_the_units_variables_stay(tmp_path: Path) -> None:
    """Those that are copied have the values that they had, escapes and specifiers included."""
    text = rf'Environment="A={kubelet.RUNTIME_FLAG}={CONTAINERD} --b=\x22c\\d\x22 --e=%H"'
    root = unpacked(tmp_path, {UNIT: unit("/usr/bin/kubelet --config=/k.yaml $A", text)})
    (root.directory / "k.yaml").touch()
    for change in wire(root, kubelet.find(root), SOCKET):
        write(root, change.path, change.entry)
    expected = rf'Environment="A={kubelet.RUNTIME_FLAG}={SHIM} --b=\"c\\d\" --e=%H"'
    assert f"\n{expected}\n" in (root.text(UNIT_DROP_IN) or "")


def test_a_value_that_stands_apart_from_its_flag(tmp_path: Path) -> None:
    """It is not changed in the variable of the flag."""
    command = unit(f"/usr/bin/kubelet $A {CONTAINERD}", f"Environment=A={kubelet.RUNTIME_FLAG}")
    root = unpacked(tmp_path, {UNIT: command})
    with pytest.raises(ShimError, match="cannot be found in its text; change it by hand"):
        wire(root, kubelet.find(root), SOCKET)


def test_a_command_that_has_changed_since(tmp_path: Path) -> None:
    """An upgrade gives kubelet's unit another one: our drop-in is made anew from that."""
    root = unpacked(tmp_path, {UNIT: unit(f"/usr/bin/kubelet {kubelet.RUNTIME_FLAG}=/x.sock")})
    for command in ("", " --new"):
        text = unit(f"/usr/bin/kubelet {kubelet.RUNTIME_FLAG}=/x.sock{command}")
        write(root, UNIT, File(text.encode()))
        found = kubelet.find(root, without=own_drop_ins(root))
        for change in wire(root, found, SOCKET):
            write(root, change.path, change.entry)
        now = kubelet.find(root).unit
        assert now is not None
        assert now.exec_start == f"/usr/bin/kubelet {kubelet.RUNTIME_FLAG}={SHIM}{command}"


def test_the_drop_in_is_a_kubelet_configuration(tmp_path: Path) -> None:
    """With the kind and version that kubelet wants in each file."""
    root = unpacked(tmp_path, {UNIT: unit("/usr/bin/kubelet --config-dir=/etc/k.d/")})
    changes = {change.path: change for change in wire(root, kubelet.find(root), SOCKET)}
    write(root, "/x", changes["/etc/k.d/99-image-cri-shim.conf"].entry)
    assert yaml.safe_load(root.text("/x") or "") == {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": SHIM,
        "imageServiceEndpoint": SHIM,
    }


def test_json_stays_json(tmp_path: Path) -> None:
    """kubelet reads a configuration that begins with a brace as JSON."""
    root = unpacked(tmp_path, LAYOUTS["json configuration"].files)
    for change in wire(root, kubelet.find(root), SOCKET):
        write(root, change.path, change.entry)
    text = root.text("/etc/k.json") or ""
    assert json.loads(text)["imageServiceEndpoint"] == SHIM


@pytest.mark.parametrize(
    ("files", "running", "said"),
    [
        ({}, None, "no kubelet found"),
        ({}, ["kubelet", f"{kubelet.RUNTIME_FLAG}={CONTAINERD}"], "no systemd unit gives it"),
        ({}, ["kubelet"], "without a systemd unit"),
        ({UNIT: unit("/usr/bin/kubelet --config=/gone.yaml")}, None, "/gone.yaml"),
        ({UNIT: unit("/bin/sh -c 'kubelet --v=2'")}, None, "started by a shell"),
        ({UNIT: unit("")}, None, "kubelet.service has no ExecStart to which"),
        (
            {UNIT: unit("/usr/bin/kubelet --config=/k.yaml"), "/k.yaml": "- a\n"},
            None,
            "/k.yaml: not a mapping",
        ),
        ({**KUBEADM, CRICTL: "a: &x [\n"}, None, f"{CRICTL}: "),
    ],
)
def test_what_cannot_be_wired_is_said(
    tmp_path: Path, files: dict[str, str], running: list[str] | None, said: str
) -> None:
    """In one line, before anything has changed."""
    root = unpacked(tmp_path, files)
    with pytest.raises(ShimError, match=said):
        wire(root, kubelet.find(root, running), SOCKET)


def test_a_running_kubelet_is_found(tmp_path: Path) -> None:
    """By the name of its command, wherever that is, if root has started it.

    Not a user's own, not one that has become root's by its setuid bit, nor one whose name says so.
    """
    for pid, words, status in (
        ("1", "/sbin/init", ROOTS),
        ("3", "kubelet\0--v=3", "Name:\tkubelet\nUid:\t1000\t1000\t1000\t1000\n"),
        ("4", "kubelet\0--v=4", "Name:\tkubelet\nUid:\t1000\t0\t0\t0\n"),
        ("5", "kubelet\0--v=5", "Name:\t\rUid:\t0\t0\t0\t0\nUid:\t7\t7\t7\t7\n"),
        ("7", "/opt/bin/kubelet\0--v=2", ROOTS),
        ("x", "kubelet", ROOTS),
    ):
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "cmdline").write_bytes(words.encode() + b"\0")
        (tmp_path / pid / "status").write_bytes(status.encode())
    assert kubelet.running_command_line(tmp_path) == ["/opt/bin/kubelet", "--v=2"]


@pytest.mark.parametrize(
    "path", [kubelet.KUBEADM_CONFIG, CRICTL, "/var/lib/kubelet/instance-config.yaml"]
)
def test_a_file_that_is_no_yaml_is_named(tmp_path: Path, path: str) -> None:
    """Once, whichever of them it is."""
    root = unpacked(tmp_path, {**KUBEADM, path: "a: [\n"})
    with pytest.raises(ShimError) as caught:
        wire(root, kubelet.find(root), SOCKET)
    assert str(caught.value).count(path) == 1


def test_a_file_without_end_is_named(tmp_path: Path) -> None:
    """A sparse one, which would take all memory."""
    root = unpacked(tmp_path, KUBEADM)
    os.truncate(root.host(kubelet.KUBEADM_FLAGS), 1 << 40)
    with pytest.raises(ShimError, match=f"^{kubelet.KUBEADM_FLAGS}: larger than 4 MiB$"):
        kubelet.find(root)


@pytest.mark.parametrize("path", [kubelet.KUBEADM_CONFIG, CRICTL, kubelet.KUBEADM_FLAGS])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path: Path, path: str) -> None:
    """It is named."""
    root = unpacked(tmp_path, {key: text for key, text in KUBEADM.items() if key != path})
    root.host(path).parent.mkdir(exist_ok=True)
    os.mkfifo(root.host(path))
    with pytest.raises(ShimError, match=f"^{path}: not a regular file$"):
        wire(root, kubelet.find(root), SOCKET)


@pytest.mark.parametrize(
    ("path", "addition"),
    [
        (
            "/var/lib/kubelet/config.yaml",
            f"containerRuntimeEndpoint: {SHIM}\nimageServiceEndpoint: {SHIM}\n",
        ),
        ("/var/lib/kubelet/kubeadm-flags.env", f"--container-runtime-endpoint={SHIM}\n"),
    ],
)
def test_a_read_only_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, addition: str
) -> None:
    """It is named with what it needs; one that says so already is no matter."""
    root = unpacked(tmp_path, KUBEADM)
    changes = wire(root, kubelet.find(root, None), SOCKET)
    mount_read_only(monkeypatch, root, path)
    with pytest.raises(NotOursError, match=f"{path}: its file system is read-only") as refused:
        wire(root, kubelet.find(root, None), SOCKET)
    assert refused.value.addition == addition
    for change in changes:
        write(root, change.path, change.entry)
    assert pending(root, wire(root, kubelet.find(root, None), SOCKET)) == []


@pytest.mark.parametrize("value", ["null", "~", '""\t# none', "\n---"])
def test_what_kubelet_reads_as_no_endpoint(tmp_path: Path, value: str) -> None:
    """It has its default, and gets the shim's."""
    files = {kubelet.KUBEADM_FLAGS: "", kubelet.KUBEADM_CONFIG: f"{kubelet.RUNTIME_KEY}: {value}\n"}
    root = unpacked(tmp_path, {**KUBEADM, **files})
    assert not kubelet.find(root).endpoint
    for change in wire(root, kubelet.find(root), SOCKET):
        write(root, change.path, change.entry)
    assert kubelet.find(root).endpoint == SHIM
