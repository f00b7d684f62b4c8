"""install-service and uninstall-service as they are typed, on unpacked images."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import install_service
from cli.app import app
from shimcore.errors import ShimError
from shimcore.runtime import detection
from shimcore.runtime.errors import SeveralRuntimesError
from shimcore.systemd import places
from shimcore.systemd.root import Root
from tests.unit.systemd.machines import CONFIG, FILLED, KUBEADM, SHIM, tree, unpacked

IMAGE = {**KUBEADM, "/usr/local/bin/image-cri-shim": "#!/bin/sh\n"}


def image(directory: Path, **more: str) -> Path:
    root = unpacked(directory, {**IMAGE, **more})
    root.host("/usr/local/bin/image-cri-shim").chmod(0o755)
    return root.directory


def run(*arguments: object) -> tuple[int, str]:
    """Exit status, and what was printed on either stream."""
    done = CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
    return done.exit_code, done.output


def test_an_image_there_and_back(tmp_path: Path) -> None:
    """Without systemd: units, links, kubelet and crictl; twice is once; nothing stays."""
    directory = image(tmp_path, **{CONFIG: FILLED})
    before = tree(unpacked(directory, {}))
    status, text = run("install-service", "--root", directory, "--wire-kubelet")
    assert (status, "wrote /etc/systemd/system/image-cri-shim.service" in text) == (0, True)
    assert SHIM in (directory / "etc/crictl.yaml").read_text()
    status, text = run("install-service", "--root", directory, "--wire-kubelet")
    assert (status, text) == (0, "everything is installed already\n")
    status, text = run("uninstall-service", "--root", directory)
    assert status == 0
    assert tree(unpacked(directory, {})) == before
    assert run("uninstall-service", "--root", directory) == (0, "nothing is installed\n")


def test_the_file_of_an_installation_is_kept(tmp_path: Path) -> None:
    """A service of another configuration keeps it where none is named, until another one is."""
    other = "/etc/50 % $hub.yaml"
    directory = image(tmp_path, **{other: FILLED, CONFIG: FILLED})
    before = tree(unpacked(directory, {}))
    unit = directory / "etc/systemd/system/image-cri-shim.service"
    assert run("install-service", "--root", directory, "-f", other)[0] == 0
    written = unit.read_text()
    again = run("install-service", "--root", directory)
    assert again == (0, "everything is installed already\n")
    assert unit.read_text() == written
    assert run("install-service", "--root", directory, "-f", CONFIG)[0] == 0
    assert f"--file {CONFIG}\n" in unit.read_text()
    assert run("install-service", "--root", directory, "-f", other)[0] == 0
    assert run("uninstall-service", "--root", directory)[0] == 0
    assert tree(unpacked(directory, {})) == before


@pytest.mark.parametrize(
    "arguments",
    [
        "serve --file /x --file=/etc/other.yaml",
        "serve -f/etc/other.yaml",
        "-f /x serve -f /etc/other.yaml",
        "-f $FILE",
        "--file=etc/other.yaml",
    ],
)
def test_the_file_that_somebody_elses_unit_names_is_kept(tmp_path: Path, arguments: str) -> None:
    """In each form that the command takes, the last one counting; also before `serve` was."""
    unit = "/etc/systemd/system/image-cri-shim.service"
    text = f"[Service]\nEnvironment=FILE=/etc/other.yaml\nExecStart=/x/image-cri-shim {arguments}\n"
    directory = image(tmp_path, **{"/etc/other.yaml": FILLED, unit: text})
    assert run("install-service", "--root", directory)[0] == 0
    assert "serve --file /etc/other.yaml\n" in (directory / unit.lstrip("/")).read_text()
    assert not (directory / "etc/image-cri-shim.yaml").exists()


def test_what_is_left_to_the_operator_comes_last(tmp_path: Path) -> None:
    """Everything else is done; it is said each time until it is done, and never without a hub."""
    worker = "[Service]\nExecStart=/usr/local/bin/k0s worker\n"
    more = {"/var/lib/k0s/x": "", "/etc/systemd/system/k0sworker.service": worker}
    directory = image(tmp_path, **{CONFIG: FILLED}, **more)
    (directory / "usr/lib/systemd/system/kubelet.service").unlink()
    arguments = ("install-service", "--root", directory, "--wire-kubelet")
    said = "kubelet is wired by hand here, once the service runs: add --kubelet-extra-args="
    status, text = run(*arguments)
    assert (status, said in text) == (0, True)
    assert "wrote /etc/systemd/system/image-cri-shim.service" in text
    assert (directory / "etc/systemd/system/k0sworker.service").read_text() == worker
    status, text = run(*arguments, "--now")
    assert (status, "kubelet is to be wired by hand now" in text) == (1, True)


def test_a_dry_run_shows_and_changes_nothing(tmp_path: Path) -> None:
    """Kubelet's part is shown even where the configuration is still to be filled in."""
    directory = image(tmp_path)
    before = tree(unpacked(directory, {}))
    status, text = run("install-service", "--root", directory, "--wire-kubelet", "--dry-run")
    assert status == 0
    assert f'+containerRuntimeEndpoint: "{SHIM}"' in text
    assert "+++ /etc/systemd/system/image-cri-shim.service (0644)" in text
    assert tree(unpacked(directory, {})) == before


def test_a_configuration_to_fill_in(tmp_path: Path) -> None:
    """Installing alone is done; what needs a hub is not, and says so."""
    directory = image(tmp_path)
    status, text = run("install-service", "--root", directory)
    assert (status, "next: fill in `address` in /etc/image-cri-shim.yaml" in text) == (0, True)
    status, text = run("install-service", "--root", directory, "--wire-kubelet")
    assert status == 1
    assert "fill in `address`, then run this command again" in text
    assert not (directory / "etc/crictl.yaml").exists()


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    """One line and status 1: no such root, no command in it, no kubelet."""
    status, text = run("install-service", "--root", tmp_path / "nowhere")
    assert (status, text.count("\n"), "is not a directory" in text) == (1, 1, True)
    status, text = run(
        "install-service", "--root", tmp_path, "--command", "/bin/image-cri-shim", "--wire-kubelet"
    )
    assert (status, text.count("\n"), "no kubelet found" in text) == (1, 1, True)
    assert list(tmp_path.iterdir()) == []


def test_a_machine_without_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that says what to do instead, for both commands."""
    monkeypatch.setattr(os.path, "isdir", lambda path: path == "/")
    for command in ("install-service", "uninstall-service"):
        status, text = run(command)
        assert (status, text.count("\n")) == (1, 1)
        assert "systemd does not run this machine" in text


@pytest.mark.skipif(os.geteuid() != 0, reason="asks for root")
def test_a_named_root_without_systemd_is_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was entered by chroot: files alone are written, and put back."""
    monkeypatch.setattr(os.path, "isdir", lambda path: path == "/")
    assert install_service._control(Root("/"), "/") is None
    with pytest.raises(ShimError, match="systemd does not run"):
        install_service._control(Root("/"), None)


def test_files_that_the_service_would_not_see_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has a /tmp of its own; what a link leads to counts."""
    away, file = tmp_path / "away", tmp_path / "shim.yaml"
    monkeypatch.setattr(places, "HIDDEN", (f"{away}/",))
    away.mkdir()
    (away / "password").write_text("a:secret")
    (tmp_path / "link").symlink_to(away / "password")
    file.touch(0o600)
    for named in (away / "password", tmp_path / "link"):
        file.write_text(f"{FILLED}hub: {{passwordFile: {named}}}\n")
        status, text = run("install-service", "--dry-run", "--file", file, "--command", "/bin/true")
        assert (status, f"the service cannot see {named}; use" in text) == (1, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
@pytest.mark.parametrize("closed", ["venv/bin/image-cri-shim", "password", "token"])
def test_what_is_in_a_closed_home_is_refused(
    closed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service, which has none of root's powers, would not start, or not read the cluster."""
    monkeypatch.setattr(places, "HIDDEN", ("/hidden/",))  # not where this test writes
    home = tmp_path / "alice"
    (home / "venv/bin").mkdir(parents=True)
    (home / closed).write_text("secret\n")
    (home / closed).chmod(0o755)
    home.chmod(0o750)
    os.chown(home, 1000, 1000)
    kubeconfig = tmp_path / "kubeconfig"
    user = {"tokenFile": str(home / "token")} if closed == "token" else {"token": "t"}
    context = {"cluster": "c", "user": "u"}
    tree = {
        "clusters": [{"name": "c", "cluster": {"server": "https://api.example"}}],
        "contexts": [{"name": "x", "context": context}],
        "users": [{"name": "u", "user": user}],
        "current-context": "x",
    }
    kubeconfig.write_text(json.dumps(tree))
    text = f"{FILLED}kubernetes: {{kubeconfig: {kubeconfig}}}\n"
    if closed == "password":
        text += f"auth: admin\nhub: {{passwordFile: {home}/password}}\n"
    file = tmp_path / "shim.yaml"
    file.touch(0o600)
    file.write_text(text)
    command = home / closed if closed.startswith("venv") else "/bin/true"
    status, text = run("install-service", "--dry-run", "--file", file, "--command", command)
    said = f"the service cannot read {home}/{closed}, since it cannot enter {home}; chmod a+x"
    assert (status, said in text) == (1, True)


def test_several_runtimes_are_refused_before_anything_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service could not start; a configuration that names one is looked at no further."""
    sockets = ("/run/containerd/containerd.sock", "/run/cri-dockerd.sock")

    async def several() -> str:
        raise SeveralRuntimesError(sockets)

    monkeypatch.setattr(detection, "detect_socket", several)
    monkeypatch.setattr(places, "HIDDEN", ("/hidden/",))  # not where this test writes
    file = tmp_path / "shim.yaml"
    for more, wanted in (("", 1), (f"cri: {sockets[1]}\n", 0)):
        file.touch(0o600)
        file.write_text(FILLED + more)
        status, text = run("install-service", "--dry-run", "--file", file, "--command", "/bin/true")
        assert status == wanted
        assert ("set `cri:` in the configuration" in text) == bool(wanted)
