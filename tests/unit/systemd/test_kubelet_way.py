"""Whether kubelet's calls come to the shim, as its process has it or as its files say."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shimcore.systemd.kubelet_way import KubeletWay, Way, kubelet_way
from tests.unit.systemd.machines import CONTAINERD, KUBEADM, KUBEADM_CONFIG, ROOTS, unpacked

PATH = "/var/run/image-cri-shim.sock"
SHIM = f"unix://{PATH}"
OTHER = "unix:///run/other.sock"
CONFIG = "/var/lib/kubelet/config.yaml"


def _process(
    folder: Path, *arguments: str, age_s: float = 0, program: str = "/usr/bin/kubelet"
) -> Path:
    """A /proc with a kubelet that began so long ago."""
    proc = folder / "proc"
    (proc / "7").mkdir(parents=True)
    words = "\0".join((program, *arguments)) + "\0"
    (proc / "7/cmdline").write_text(words)
    (proc / "7/status").write_text(ROOTS)
    ticks = int((1000 - age_s) * os.sysconf("SC_CLK_TCK"))
    (proc / "7/stat").write_text(f"7 (kubelet) S {'0 ' * 18}{ticks} 0\n")
    (proc / "uptime").write_text("1000.00 1.00\n")
    return proc


@pytest.mark.parametrize(
    ("text", "way"),
    [
        (f"containerRuntimeEndpoint: {SHIM}\n", Way.WIRED),
        ("containerRuntimeEndpoint: unix:///run/image-cri-shim.sock\n", Way.WIRED),
        (f"containerRuntimeEndpoint: {CONTAINERD}\n", Way.NOT_WIRED),
        (f"containerRuntimeEndpoint: {CONTAINERD}\nimageServiceEndpoint: {SHIM}\n", Way.WIRED),
        (f"containerRuntimeEndpoint: {SHIM}\nimageServiceEndpoint: {OTHER}\n", Way.NOT_WIRED),
        ("containerRuntimeEndpoint: {", Way.UNKNOWN),
        (KUBEADM_CONFIG, Way.NO_KUBELET),
    ],
)
def test_what_the_files_say(tmp_path: Path, text: str, way: Way) -> None:
    """Without a process, the files; /var/run and /run are one place."""
    root = unpacked(tmp_path, {CONFIG: text})
    found = kubelet_way(root, PATH)
    assert (found.way, found.running, found.stale) == (way, False, False)


def test_flags_of_a_stopped_kubelet(tmp_path: Path) -> None:
    """kubeadm's environment file gives a flag, which wins over the file."""
    found = kubelet_way(unpacked(tmp_path, KUBEADM), PATH)
    assert (found.way, found.endpoint) == (Way.NOT_WIRED, CONTAINERD)


def test_no_kubelet_at_all(tmp_path: Path) -> None:
    """A machine without one is no error."""
    assert kubelet_way(unpacked(tmp_path, {}), PATH).way is Way.NO_KUBELET


def test_the_process_wins_over_the_unit(tmp_path: Path) -> None:
    """What runs was started before its unit changed."""
    root = unpacked(tmp_path / "root", KUBEADM)
    proc = _process(tmp_path, f"--container-runtime-endpoint={SHIM}")
    found = kubelet_way(root, PATH, proc)
    assert (found.way, found.endpoint, found.running) == (Way.WIRED, SHIM, True)


def test_a_process_that_is_told_nothing_has_its_default(tmp_path: Path) -> None:
    """containerd's socket: not the shim's."""
    found = kubelet_way(unpacked(tmp_path / "root", {}), PATH, _process(tmp_path))
    assert (found.way, found.endpoint) == (Way.NOT_WIRED, CONTAINERD)


@pytest.mark.parametrize(("age_s", "stale"), [(900, True), (0, False)])
def test_a_file_that_is_younger_than_the_process(tmp_path: Path, age_s: float, stale: bool) -> None:
    """It has not been read."""
    root = unpacked(tmp_path / "root", {CONFIG: f"containerRuntimeEndpoint: {SHIM}\n"})
    written = time.time() - 60
    os.utime(root.host(CONFIG), (written, written))
    proc = _process(tmp_path, f"--config={CONFIG}", age_s=age_s)
    found = kubelet_way(root, PATH, proc)
    assert (found.way, found.stale) == (Way.WIRED, stale)


CONNECTS = """
import socket, sys, time
made = socket.socket(socket.AF_UNIX)
made.connect(sys.argv[-1])
print(flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(("connected", "way"), [(True, Way.WIRED), (False, Way.NOT_WIRED)])
def test_connections_tell_what_files_cannot(tmp_path: Path, connected: bool, way: Way) -> None:
    """A kubelet older than its files is judged by where it is connected to."""
    shim, runtime = str(tmp_path / "shim.sock"), str(tmp_path / "runtime.sock")
    root = unpacked(tmp_path / "root", {CONFIG: f"containerRuntimeEndpoint: unix://{shim}\n"})
    proc = tmp_path / "proc"
    proc.mkdir()
    with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as other:
        for each, path in ((one, shim), (other, runtime)):
            each.bind(path)
            each.listen()
            each.settimeout(20)
        command = [sys.executable, "-c", CONNECTS, shim if connected else runtime]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            try:
                accepted, _ = (one if connected else other).accept()
                (proc / str(process.pid)).mkdir()
                own = [f"{process.pid}/{each}" for each in ("fd", "ns", "stat", "status")]
                for name in ("self", "uptime", *own):
                    (proc / name).symlink_to(f"/proc/{name}")
                # A kubelet here alone: other tests look for the machine's.
                words = f"kubelet\0--config={CONFIG}\0"
                (proc / str(process.pid) / "cmdline").write_text(words)
                later = time.time() + 60
                os.utime(root.host(CONFIG), (later, later))
                found = kubelet_way(root, shim, proc)
                accepted.close()
            finally:
                process.kill()
    assert (found.way, found.stale) == (way, not connected)
    assert found.detail == ("" if connected else "systemctl restart kubelet")


ARGUMENT = f"container-runtime-endpoint={SHIM}"
RANCHER = "/etc/rancher/k3s/config.yaml"
MICROK8S = "/var/snap/microk8s/current/args/kubelet"


@pytest.mark.parametrize(
    ("program", "file", "text", "way"),
    [
        ("/usr/local/bin/k3s server", RANCHER, "", Way.NOT_WIRED),
        ("/usr/local/bin/k3s agent", RANCHER, f"kubelet-arg: [{ARGUMENT}]\n", Way.WIRED),
        ("/usr/local/bin/k3s agent", RANCHER, f"kubelet-arg:\n# - {ARGUMENT}\n", Way.NOT_WIRED),
        ("k3s-agent", RANCHER, "token: x\n", Way.NOT_WIRED),
        ("/snap/microk8s/1/kubelite", MICROK8S, "", Way.NOT_WIRED),
        ("/snap/microk8s/1/kubelite", MICROK8S, f"--container-runtime-endpoint={SHIM}", Way.WIRED),
        ("/usr/local/bin/k3s server", "/etc/other", "", Way.UNKNOWN),
    ],
)
def test_a_program_with_kubelet_inside(
    tmp_path: Path, program: str, file: str, text: str, way: Way
) -> None:
    """k3s and MicroK8s run no process called kubelet; what to set is said."""
    files = {file: text}
    if file == RANCHER:
        files["/var/lib/rancher/k3s/x"] = ""
    root = unpacked(tmp_path / "root", files)
    found = kubelet_way(root, PATH, _process(tmp_path, program=program))
    assert (found.way, found.running) == (way, True)
    if way is Way.NOT_WIRED:
        assert (file in found.detail) == (file != RANCHER)  # k3s's is written by a command


IMAGES_ARGUMENT = f"image-service-endpoint={SHIM}"
PARTS = [
    (SHIM, CONTAINERD, (Way.WIRED, True, False, True)),
    (SHIM, SHIM, (Way.WIRED, False, False, True)),
    (CONTAINERD, SHIM, (Way.NOT_WIRED, False, True, True)),
    (CONTAINERD, CONTAINERD, (Way.NOT_WIRED, False, False, False)),
]
"""The endpoints for images and sandboxes, and what `_parts` says of them."""


def _parts(found: KubeletWay) -> tuple[Way, bool, bool, bool]:
    return found.way, found.images_alone, found.sandboxes_alone, found.needs_shim


@pytest.mark.parametrize(("images", "sandboxes", "parts"), PARTS)
def test_one_of_whose_endpoints_goes_elsewhere(
    tmp_path: Path, images: str, sandboxes: str, parts: tuple[Way, bool, bool, bool]
) -> None:
    """It is not left without the shim either."""
    root = unpacked(tmp_path / "root", {})
    flags = (f"--image-service-endpoint={images}", f"--container-runtime-endpoint={sandboxes}")
    found = kubelet_way(root, PATH, _process(tmp_path, *flags))
    assert _parts(found) == parts


@pytest.mark.parametrize(
    ("files", "program"),
    [
        (
            {RANCHER: "kubelet-arg:\n- image-service-endpoint={0}\n- {1}\n"},
            "/usr/local/bin/k3s server",
        ),
        ({MICROK8S: "--image-service-endpoint {0}\n--{1}\n"}, "/snap/microk8s/1/kubelite"),
        (
            {
                "/etc/systemd/system/k0sworker.service": (
                    "[Service]\nExecStart=/usr/bin/k0s worker "
                    "'--kubelet-extra-args=--image-service-endpoint={0} --{1}'\n"
                )
            },
            "",
        ),
        (
            {
                "/etc/systemd/system/k3s.service": (
                    "[Service]\nExecStart=/usr/bin/k3s server "
                    "--kubelet-arg=image-service-endpoint={0} --kubelet-arg={1}\n"
                )
            },
            "",
        ),
    ],
)
@pytest.mark.parametrize("spelled", [SHIM, "unix:///run/image-cri-shim.sock"])
@pytest.mark.parametrize(("images", "sandboxes", "parts"), PARTS)
def test_one_of_a_distributions_endpoints(
    tmp_path: Path,
    files: dict[str, str],
    program: str,
    spelled: str,
    images: str,
    sandboxes: str,
    parts: tuple[Way, bool, bool, bool],
) -> None:
    """The same, by its files or its command."""
    (file,) = files
    home = "/var/lib/k0s/x" if "k0s" in file else "/var/lib/rancher/k3s/x"
    images, sandboxes = (each.replace(SHIM, spelled) for each in (images, sandboxes))
    text = files[file].format(images, f"container-runtime-endpoint={sandboxes}")
    root = unpacked(tmp_path / "root", {file: text} | ({} if file == MICROK8S else {home: ""}))
    found = kubelet_way(root, PATH, _process(tmp_path, program=program))
    assert _parts(found) == parts


def test_a_runtime_of_k0s_own(tmp_path: Path) -> None:
    """`--cri-socket` names both endpoints of its kubelet."""
    text = f"[Service]\nExecStart=/usr/bin/k0s worker --cri-socket=remote:{SHIM}\n"
    files = {"/etc/systemd/system/k0sworker.service": text, "/var/lib/k0s/x": ""}
    assert kubelet_way(unpacked(tmp_path, files), PATH).way is Way.WIRED


def test_the_command_of_one_that_runs(tmp_path: Path) -> None:
    """For images alone: k3s' own flag."""
    root = unpacked(tmp_path / "root", {"/var/lib/rancher/k3s/x": ""})
    flag = f"--kubelet-arg={IMAGES_ARGUMENT}"
    found = kubelet_way(root, PATH, _process(tmp_path, flag, program="/usr/local/bin/k3s"))
    assert _parts(found) == (Way.WIRED, True, False, True)


def test_a_distribution_that_does_not_run(tmp_path: Path) -> None:
    """Its files count."""
    there = {"/var/lib/rancher/k3s/x": ""}
    unwired = kubelet_way(unpacked(tmp_path / "1", there), PATH)
    assert (unwired.way, unwired.running) == (Way.NOT_WIRED, False)
    told = {RANCHER: f"kubelet-arg: [{ARGUMENT}]\n"}
    wired = kubelet_way(unpacked(tmp_path / "2", there | told), PATH)
    assert (wired.way, wired.running) == (Way.WIRED, False)


@pytest.mark.parametrize("program", ["", "/usr/local/bin/k3s server"])
def test_a_distribution_whose_files_cannot_be_read(tmp_path: Path, program: str) -> None:
    """Which one it is, and where; its text may have a token."""
    files = {"/var/lib/rancher/k3s/x": "", RANCHER: "token: s3cret\nkubelet-arg: [\n"}
    root = unpacked(tmp_path / "root", files)
    found = kubelet_way(root, PATH, _process(tmp_path, program=program))
    assert (found.way, found.running) == (Way.UNKNOWN, bool(program))
    assert found.detail.startswith(f"{RANCHER}: not YAML: line 3, column 1: ")
    assert "s3cret" not in found.detail


@pytest.mark.parametrize(
    ("program", "flags", "directory", "file"),
    [
        ("/usr/local/bin/k3s server", (), "/var/lib/rancher/k3s", RANCHER),
        (
            "/var/lib/rancher/rke2/bin/kubelet",
            (f"--container-runtime-endpoint={CONTAINERD}",),
            "/var/lib/rancher/rke2",
            "/etc/rancher/rke2/config.yaml",
        ),
    ],
)
def test_a_distribution_that_has_not_read_its_files(
    tmp_path: Path, program: str, flags: tuple[str, ...], directory: str, file: str
) -> None:
    """They say that it is wired; the process goes elsewhere until it is started again."""
    argument = f"kubelet-arg: [{ARGUMENT}]\n"
    root = unpacked(tmp_path / "root", {f"{directory}/x": "", file: argument})
    found = kubelet_way(root, PATH, _process(tmp_path, *flags, program=program, age_s=100))
    assert found.stale
    assert found.detail == f"systemctl restart {'rke2-server' if 'rke2' in file else 'k3s'}"


@pytest.mark.parametrize(
    ("flags", "way"),
    [
        ([f"--kubelet-arg={ARGUMENT}"], Way.WIRED),
        (["--kubelet-arg", ARGUMENT], Way.WIRED),
        ([f"--kubelet-arg={ARGUMENT}.admin"], Way.NOT_WIRED),
        ([f"--kubelet-arg={ARGUMENT}", f"--kubelet-arg={ARGUMENT}x"], Way.NOT_WIRED),
        ([f"--node-label={ARGUMENT}"], Way.NOT_WIRED),
    ],
)
def test_its_own_flag_is_enough(tmp_path: Path, flags: list[str], way: Way) -> None:
    """k3s takes kubelet's arguments on its command line, too; the last one counts."""
    root = unpacked(tmp_path / "root", {"/var/lib/rancher/k3s/x": ""})
    proc = _process(tmp_path, "server", *flags, program="/usr/local/bin/k3s")
    assert kubelet_way(root, PATH, proc).way is way


def test_the_kubelet_of_a_node_in_a_container_is_another_nodes(tmp_path: Path) -> None:
    """A development machine sees those of its containers, in PID namespaces of their own."""
    root = unpacked(tmp_path / "root", {})
    proc = _process(tmp_path, f"--container-runtime-endpoint={CONTAINERD}")
    for process, namespace in (("self", 1), ("7", 2)):
        (proc / process / "ns").mkdir(parents=True)
        (proc / process / "ns/pid").symlink_to(f"pid:[{namespace}]")
    assert kubelet_way(root, PATH, proc).way is Way.NO_KUBELET
    (proc / "7/ns/pid").unlink()
    (proc / "7/ns/pid").symlink_to("pid:[1]")
    assert kubelet_way(root, PATH, proc).way is Way.NOT_WIRED
