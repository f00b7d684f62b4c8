"""Nodes that are set up in other ways: packages, distributions, more than one runtime."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest
import yaml

from shimcore.errors import ShimError
from shimcore.systemd import places
from shimcore.systemd.command import command_path
from shimcore.systemd.install import install, plan
from shimcore.systemd.kubelet import RUNTIME_FLAG
from shimcore.systemd.places import runtime_socket
from shimcore.systemd.root import Root
from shimcore.systemd.runtimes.distributions import embedded_kubelet
from shimcore.systemd.runtimes.node import Kind, kind_of, service_of
from shimcore.systemd.uninstall import plan_removal, uninstall
from shimcore.systemd.units import (
    BYPASS,
    SERVICE,
    SOCKET,
    UnitSettings,
    bypass_text,
    service_text,
    socket_text,
    waiting,
)
from tests.support.scripted_runtime import ScriptedRuntime
from tests.unit.systemd.machines import (
    CONFIG,
    CONTAINERD,
    FILLED,
    KUBEADM,
    SHIM,
    NotedSystemd,
    request,
    tree,
    unpacked,
)

COMMAND = "/usr/local/bin/image-cri-shim"
PLACE = "/usr/lib/systemd/system"
PACKAGE = {
    f"{PLACE}/{SERVICE}": waiting(service_text(UnitSettings(command=COMMAND)), CONFIG),
    f"{PLACE}/{SOCKET}": waiting(socket_text(), CONFIG),
    f"{PLACE}/{BYPASS}": bypass_text(),
}


def do(root: Root, control: NotedSystemd | None = None, *, wire: bool = True) -> None:
    list(install(plan(request(root, wire=wire)), control, now=True))


class TestPackage:
    def test_its_units_are_used(self, tmp_path: Path) -> None:
        """No copies in /etc, and no completions beside its own; kubelet is wired, and back."""
        root = unpacked(tmp_path, {**KUBEADM, CONFIG: FILLED, **PACKAGE})
        before = tree(root)
        control = NotedSystemd({"kubelet.service"})
        do(root, control)
        for unit in (SERVICE, SOCKET, BYPASS):
            assert not root.exists(f"/etc/systemd/system/{unit}")
        link = root.host(f"/etc/systemd/system/multi-user.target.wants/{SERVICE}", last=False)
        assert str(link.readlink()) == f"{PLACE}/{SERVICE}"
        assert not root.exists("/usr/local/share/fish")
        assert f"start {SERVICE}" in control.asked
        list(uninstall(plan_removal(root, CONFIG), control))
        assert f"stop {SOCKET} {SERVICE} {BYPASS}" in control.asked
        assert tree(root) == before

    def test_an_enabled_unit_stays_as_it_is(self, tmp_path: Path) -> None:
        """The package's own links are not changed."""
        root = unpacked(tmp_path, {CONFIG: FILLED, **PACKAGE})
        for target, unit in (("multi-user", SERVICE), ("sockets", SOCKET)):
            link = root.host(f"/etc/systemd/system/{target}.target.wants/{unit}", last=False)
            link.parent.mkdir(parents=True)
            link.symlink_to(f"/lib/systemd/system/{unit}")
        assert not plan(request(root, wire=False))

    def test_copies_of_an_earlier_installation_go(self, tmp_path: Path) -> None:
        """They would hide the package's units."""
        root = unpacked(tmp_path, {CONFIG: FILLED})
        do(root, wire=False)
        unpacked(tmp_path, PACKAGE)
        do(root, wire=False)
        assert not root.exists(f"/etc/systemd/system/{SERVICE}")
        list(uninstall(plan_removal(root, CONFIG), None))
        assert set(tree(root)) == set(tree(unpacked(tmp_path, {CONFIG: FILLED, **PACKAGE})))

    def test_other_settings_need_units_of_their_own(self, tmp_path: Path) -> None:
        """Such as another socket."""
        root = unpacked(tmp_path, {CONFIG: FILLED + "shim: /run/other.sock\n", **PACKAGE})
        do(root, wire=False)
        assert "/run/other.sock" in (root.text(f"/etc/systemd/system/{SOCKET}") or "")


WANTS = "/etc/systemd/system/multi-user.target.wants"


@pytest.mark.parametrize(
    ("units", "enabled", "service"),
    [
        (["rke2-server", "rke2-agent"], ["rke2-agent"], "rke2-agent"),
        (["rke2-server", "rke2-agent"], ["rke2-server"], "rke2-server"),
        (["rke2-server", "rke2-agent"], ["rke2-server", "rke2-agent"], "rke2-server"),
        (["rke2-server", "rke2-agent"], [], "rke2-server"),
        (["rke2-agent"], [], "rke2-agent"),
        ([], [], "rke2-server"),
    ],
)
def test_the_service_of_a_runtime(
    tmp_path: Path, units: list[str], enabled: list[str], service: str
) -> None:
    """RKE2's tarball brings the units of a server and of an agent; one of them is enabled."""
    local = "/usr/local/lib/systemd/system"
    root = unpacked(tmp_path, {f"{local}/{unit}.service": "[Service]\n" for unit in units})
    for unit in enabled:
        link = root.host(f"{WANTS}/{unit}.service", last=False)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(f"{local}/{unit}.service")
    assert service_of(root, Kind.RKE2) == service


@pytest.mark.parametrize("socket", [None, "/run/k3s/containerd/containerd.sock"])
@pytest.mark.parametrize(
    ("units", "kind"),
    [(["k3s"], Kind.K3S), (["k3s-agent"], Kind.K3S), (["rke2-agent"], Kind.RKE2), ([], Kind.RKE2)],
)
def test_the_folder_of_what_was_there_before(
    tmp_path: Path, socket: str | None, units: list[str], kind: Kind
) -> None:
    """k3s and RKE2 have the same socket: the service that is there says which it is."""
    folders = {f"/var/lib/rancher/{name}/x": "" for name in ("k3s", "rke2")}
    services = {f"/etc/systemd/system/{unit}.service": "[Service]\n" for unit in units}
    assert kind_of(unpacked(tmp_path, {**folders, **services}), socket) is kind


ARGUMENT = f"container-runtime-endpoint={SHIM}"
MICROK8S = "/var/snap/microk8s/current/args"


class TestKubeletElsewhere:
    @pytest.mark.parametrize(
        ("name", "unit"), [("k3s", "k3s"), ("k3s", "k3s-agent"), ("rke2", "rke2-server")]
    )
    def test_a_drop_in_of_rancher(self, tmp_path: Path, name: str, unit: str) -> None:
        """Arguments of other files stay; its service is restarted, and again on the way back."""
        units = {f"/etc/systemd/system/{unit}.service": f"[Service]\nExecStart=/x/{name} server\n"}
        theirs = {f"/etc/rancher/{name}/config.yaml": "kubelet-arg: [max-pods=50]\n"}
        files = {CONFIG: FILLED, f"/var/lib/rancher/{name}/x": "", **units, **theirs}
        root = unpacked(tmp_path, files)
        before = tree(root)
        control = NotedSystemd({f"{unit}.service"})
        do(root, control)
        text = root.text(f"/etc/rancher/{name}/config.yaml.d/99-image-cri-shim.yaml") or ""
        assert yaml.safe_load(text) == {"kubelet-arg+": [ARGUMENT]}
        assert control.asked[-1] == f"restart {unit}.service"
        after = tree(root)
        do(root, control)
        assert tree(root) == after
        control.asked.clear()
        list(uninstall(plan_removal(root, CONFIG), control))
        assert f"restart {unit}.service" in control.asked
        assert tree(root) == before

    @pytest.mark.parametrize(
        ("directory", "file", "text", "added", "said"),
        [
            (
                "/var/lib/rancher/k3s",
                "/etc/systemd/system/k3s.service",
                "[Service]\nExecStart=/usr/local/bin/k3s server --kubelet-arg=max-pods=50",
                f"--kubelet-arg '{ARGUMENT}'",
                f"add --kubelet-arg={ARGUMENT} to ExecStart of k3s ",
            ),
            (
                MICROK8S,
                f"{MICROK8S}/kubelet",
                "",
                f"--{ARGUMENT}",
                f"echo --{ARGUMENT} >>{MICROK8S}/kubelet && snap",
            ),
            (
                "/var/lib/k0s",
                "/etc/systemd/system/k0sworker.service",
                "[Service]\nExecStart=/usr/local/bin/k0s worker",
                f'--kubelet-extra-args="--{ARGUMENT}"',
                f'add --kubelet-extra-args="--{ARGUMENT}" to ExecStart of k0sworker ',
            ),
            (
                "/var/lib/k0s",
                "/etc/systemd/system/k0scontroller.service",
                "[Service]\nExecStart=/usr/local/bin/k0s controller --single",
                f'--kubelet-extra-args="--{ARGUMENT}"',
                f'add --kubelet-extra-args="--{ARGUMENT}" to ExecStart of k0scontroller ',
            ),
        ],
    )
    def test_by_hand(
        self, tmp_path: Path, directory: str, file: str, text: str, added: str, said: str
    ) -> None:
        """What to set is said once everything else is done and the node was looked at."""
        root = unpacked(tmp_path, {CONFIG: FILLED, f"{directory}/x": "", file: text})
        planned = plan(request(root))
        assert said in planned.by_hand
        assert planned.for_kubelet == []
        control = NotedSystemd()
        looked: list[str] = []
        list(
            install(planned, control, now=True, before_kubelet=lambda: looked.extend(control.asked))
        )
        assert f"start {SERVICE}" in looked
        root.host(file).write_text(f"{text} {added}\n")
        assert not plan(request(root))
        assert plan(request(root)).by_hand == ""

    def test_one_that_was_wired_by_hand_is_not_left_behind(self, tmp_path: Path) -> None:
        """Without the shim it would have no runtime; --force takes it away all the same."""
        command = f"/usr/local/bin/k0s worker --kubelet-extra-args=--{ARGUMENT}"
        unit = {"/etc/systemd/system/k0sworker.service": f"[Service]\nExecStart={command}\n"}
        for number, files in enumerate(
            (
                {"/var/lib/k0s/x": "", **unit},
                {"/var/lib/kubelet/config.yaml": f"containerRuntimeEndpoint: {SHIM}\n"},
                {
                    "/var/lib/kubelet/config.yaml": (
                        f"containerRuntimeEndpoint: {SHIM}\nimageServiceEndpoint: {CONTAINERD}\n"
                    )
                },
                {f"{MICROK8S}/kubelet": f"--image-service-endpoint={SHIM}\n"},
            )
        ):
            root = unpacked(tmp_path / str(number), {CONFIG: FILLED, **files})
            do(root, wire=False)
            installed = tree(root)
            with pytest.raises(ShimError, match="by hand"):
                plan_removal(root, CONFIG)
            assert tree(root) == installed
            list(uninstall(plan_removal(root, CONFIG, force=True), None))
            assert not root.exists(f"/etc/systemd/system/{SERVICE}")

    @pytest.mark.parametrize("config", [FILLED, "address: {", None])
    def test_one_that_was_wired_by_hand_to_a_packages_shim(
        self, tmp_path: Path, config: str | None
    ) -> None:
        """Nothing was installed, and there is a kubelet that needs the shim."""
        endpoint = {"/var/lib/kubelet/config.yaml": f"containerRuntimeEndpoint: {SHIM}\n"}
        files = endpoint if config is None else {**endpoint, CONFIG: config}
        root = unpacked(tmp_path, files)
        with pytest.raises(ShimError, match=f"by hand.* systemctl stop {SOCKET} ends the shim"):
            plan_removal(root, CONFIG)
        assert plan_removal(root, CONFIG, force=True).record is None
        root.host("/var/lib/kubelet/config.yaml").write_text("containerRuntimeEndpoint: ''\n")
        assert plan_removal(root, CONFIG).record is None

    @pytest.mark.parametrize(
        ("more", "wired"),
        [
            (f"--{ARGUMENT}", True),
            (f"--v=2 '--{ARGUMENT}'", True),
            (f"{RUNTIME_FLAG} {SHIM}", True),
            (f"  # --{ARGUMENT}", False),
            (f"--{ARGUMENT}\n{RUNTIME_FLAG}=${{SNAP_COMMON}}/run/containerd.sock", False),
            (f"--{ARGUMENT}.admin", False),
            (f"--x{ARGUMENT}", False),
        ],
    )
    def test_arguments_that_microk8s_reads(self, tmp_path: Path, more: str, wired: bool) -> None:
        """Comments are none, the last of two counts, and a longer path is another one."""
        root = unpacked(tmp_path, {f"{MICROK8S}/kubelet": f"--v=2\n{more}\n"})
        found = embedded_kubelet(root, SHIM.removeprefix("unix://"))
        assert found is not None
        assert found.wired == wired

    @pytest.mark.parametrize(
        ("arguments", "wired"),
        [
            (f"--kubelet-extra-args=--v=2\\x20--{ARGUMENT}", True),
            (f"--kubelet-extra-args '--{ARGUMENT}'", True),
            (f"--kubelet-extra-args='--{ARGUMENT} {RUNTIME_FLAG}=/x'", False),
            (f"--kubelet-extra-args=--{ARGUMENT} --kubelet-extra-args=--v=2", False),
            (f"--kubelet-extra-args=--{ARGUMENT}.admin", False),
            (f"--labels={ARGUMENT}", False),
        ],
    )
    def test_arguments_that_k0s_reads(self, tmp_path: Path, arguments: str, wired: bool) -> None:
        """The last `--kubelet-extra-args` counts, and in it the last of two."""
        text = f"[Service]\nExecStart=/usr/local/bin/k0s worker {arguments}\n"
        unit = {"/etc/systemd/system/k0sworker.service": text}
        root = unpacked(tmp_path, {"/var/lib/k0s/x": "", **unit})
        found = embedded_kubelet(root, SHIM.removeprefix("unix://"))
        assert found is not None
        assert found.wired == wired

    def test_beside_a_masked_kubelet(self, tmp_path: Path) -> None:
        """The kubelet inside is the one that is wired."""
        unit = {
            "/etc/systemd/system/k3s.service": "[Service]\nExecStart=/usr/local/bin/k3s server\n"
        }
        root = unpacked(tmp_path, {CONFIG: FILLED, "/var/lib/rancher/k3s/x": "", **unit})
        root.host("/etc/systemd/system/kubelet.service").symlink_to("/dev/null")
        (change,) = plan(request(root)).for_kubelet
        assert (change.path, change.then) == (
            "/etc/rancher/k3s/config.yaml.d/99-image-cri-shim.yaml",
            "restart k3s.service",
        )

    def test_arguments_that_are_there_already(self, tmp_path: Path) -> None:
        """Of two the last one counts, so it goes among them."""
        command = "/usr/local/bin/k0s worker --kubelet-extra-args=--v=2"
        unit = {"/etc/systemd/system/k0sworker.service": f"[Service]\nExecStart={command}\n"}
        root = unpacked(tmp_path, {CONFIG: FILLED, "/var/lib/k0s/x": "", **unit})
        said = f"add --{ARGUMENT} to --kubelet-extra-args in ExecStart of k0sworker "
        assert said in plan(request(root)).by_hand

    def test_minikube(self, tmp_path: Path) -> None:
        """Its ExecStart has kubelet's version in it, and is not copied."""
        drop_in = (
            "[Service]\nExecStart=\nExecStart=/var/lib/minikube/binaries/v1.30.0/kubelet "
            f"--config=/var/lib/kubelet/config.yaml --container-runtime-endpoint={CONTAINERD}\n"
        )
        files = {**KUBEADM, "/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf": drop_in}
        root = unpacked(tmp_path, {CONFIG: FILLED, **files})
        with pytest.raises(ShimError, match="minikube start --extra-config=kubelet") as refused:
            plan(request(root))
        assert f"container-runtime-endpoint={SHIM}" in str(refused.value)


def test_a_kubelet_that_has_not_read_its_files(tmp_path: Path) -> None:
    """With nothing to write it is restarted all the same, once the node has been looked at."""
    root = unpacked(tmp_path, {**KUBEADM, CONFIG: FILLED})
    control = NotedSystemd({"kubelet.service"})
    do(root, control)
    control.asked.clear()
    again = plan(request(root))
    assert not again
    again.stale_kubelet = "kubelet.service"
    assert again
    looked: list[str] = []
    list(install(again, control, now=True, before_kubelet=lambda: looked.extend(control.asked)))
    assert "restart kubelet.service" not in looked
    assert control.asked[-1] == "restart kubelet.service"


class TestSeveralRuntimes:
    @pytest.mark.parametrize(
        ("others", "noted"),
        [
            ([], False),
            (["/run/containerd/containerd.sock"], False),
            (["/run/containerd/containerd.sock", "/run/crio/crio.sock"], True),
            (["/run/crio/crio.sock"], True),
        ],
    )
    def test_the_note_of_kubelets_endpoint(
        self, tmp_path: Path, others: list[str], noted: bool
    ) -> None:
        """Only where another could be found."""
        root = unpacked(tmp_path, {**KUBEADM, CONFIG: FILLED, **dict.fromkeys(others, "")})
        notes = plan(request(root)).notes
        assert any(f"set `cri: {CONTAINERD}`" in note for note in notes) == noted

    def test_which_is_to_be_told(self, tmp_path: Path) -> None:
        """Two of them, and nothing that names one; a socket of two paths is one."""
        sockets = ["/run/containerd/containerd.sock", "/run/crio/crio.sock"]
        root = unpacked(tmp_path, {CONFIG: FILLED, **dict.fromkeys(sockets, "")})
        with pytest.raises(ShimError, match="more than one runtime"):
            plan(request(root, wire=False, runtime=True))
        root.host(sockets[0]).unlink()
        (tmp_path / "var").mkdir(exist_ok=True)
        (tmp_path / "var/run").symlink_to("/run")
        wired = plan(request(root, wire=False, runtime=True)).for_runtime
        assert [each.then for each in wired] == ["reload crio.service"]

    @pytest.mark.parametrize("versions", [(), ("runtime.v1",)], ids=["no CRI", "CRI"])
    async def test_one_without_cri_is_none(
        self, versions: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """On this machine, where it can be asked: Docker's containerd has its CRI disabled."""
        with tempfile.TemporaryDirectory() as folder:
            containerd, docker = f"{folder}/containerd.sock", f"{folder}/docker.sock"
            monkeypatch.setattr(places, "KNOWN_SOCKETS", (containerd, docker))
            async with ScriptedRuntime(docker), ScriptedRuntime(containerd, versions=versions):
                found = await asyncio.to_thread(runtime_socket, Root("/"), None)
        assert found == (None if versions else docker)


@pytest.mark.parametrize(
    "path",
    ["/opt/shim-1.0/image-cri-shim", "/srv/venv/bin/image-cri-shim", "/usr/sbin/image-cri-shim"],
)
def test_the_command_of_an_image(tmp_path: Path, path: str) -> None:
    """--root finds it where virtual environments and tarballs are."""
    root = unpacked(tmp_path, {path: "#!/bin/sh\n"})
    root.host(path).chmod(0o755)
    assert command_path(root, "/nowhere") == path
