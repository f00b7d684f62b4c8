"""Where the shim has no place, or something is to be mended first, nothing is touched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from shimcore.switch.exchange import CONFIG, VERSIONS, Mode, Phase
from shimcore.switch.preconditions import (
    NotSwitchedError,
    check,
    why_unsupported,
)
from shimcore.systemd import places
from shimcore.systemd.root import Root
from shimcore.systemd.units import SERVICE
from tests.unit.switch.nodes import node, request
from tests.unit.systemd.machines import FILLED, unpacked
from tests.unit.systemd.wired import do

SYSTEMD = {"/run/systemd/system/x": ""}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "systemd does not run"),
        (SYSTEMD | {"/etc/os-release": "NAME=Talos\nID=talos\n"}, "Talos"),
        (SYSTEMD | {"/usr/lib/os-release": 'ID="bottlerocket"\n'}, "Bottlerocket"),
        (SYSTEMD | {"/etc/os-release": "ID=debian\n"}, ""),
        (SYSTEMD, ""),
    ],
)
def test_where_it_has_no_place(files: dict[str, str], said: str, tmp_path: Path) -> None:
    """Said with what runs there."""
    found = why_unsupported(unpacked(tmp_path, files))
    assert said in found if said else found == ""


def test_an_unsupported_node_is_no_refusal(tmp_path: Path) -> None:
    """It has a phase of its own."""
    with pytest.raises(NotSwitchedError) as caught:
        check(unpacked(tmp_path, {}), request("1.0.0"))
    assert caught.value.phase is Phase.UNSUPPORTED


def test_a_node_that_is_ready(tmp_path: Path) -> None:
    """Nothing is said, for an installation or a removal."""
    root = node(tmp_path).root
    check(root, request("1.0.0"))
    check(root, request("1.0.0", Mode.REMOVE))


def refused(root: Root, config: str | None = FILLED, version: str = "1.0.0") -> str:
    with pytest.raises(NotSwitchedError) as caught:
        check(root, request(version, config=config))
    return str(caught.value)


def test_a_version_that_is_not_there(tmp_path: Path) -> None:
    """Its command is named."""
    assert f"{VERSIONS}/9.9.9/image-cri-shim" in refused(node(tmp_path).root, version="9.9.9")


def test_a_package(tmp_path: Path) -> None:
    """Who has installed it by a package upgrades that."""
    root = node(tmp_path).root
    unpacked(root.directory, {f"/usr/lib/systemd/system/{SERVICE}": "[Service]\n"})
    assert "package" in refused(root)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (None, "set `config`"),
        ("adress: http://x\n", "adress"),
        ("address: [\n", CONFIG),
        ("cache: {}\n", "address: is required"),
        ("", "address: is required"),
        ("- x\n", CONFIG),
    ],
)
def test_a_configuration_with_faults(config: str | None, said: str, tmp_path: Path) -> None:
    """It is refused before anything is touched, and never shown as a whole."""
    root = node(tmp_path).root
    assert said in refused(root, config)
    assert root.text(CONFIG) is None


def test_the_node_s_own_configuration(tmp_path: Path) -> None:
    """It counts where the fleet brings none."""
    root = node(tmp_path).root
    unpacked(root.directory, {CONFIG: FILLED})
    check(root, request("1.0.0", config=None))
    unpacked(root.directory, {CONFIG: "adress: x\n"})
    assert "adress" in refused(root, None)


@pytest.mark.parametrize("closed", [False, True])
def test_a_file_that_the_service_would_not_have(
    closed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has a /tmp of its own, and none of root's powers."""
    root = node(tmp_path).root
    away = root.directory / "away"
    away.mkdir()
    (away / "password").write_text("secret\n")
    monkeypatch.setattr(places, "HIDDEN", ("/hidden/" if closed else f"{away}/",))
    monkeypatch.setattr(places, "_allows", lambda path, _: path != away)
    said = refused(root, f"{FILLED}auth: admin\nhub: {{passwordFile: {away}/password}}\n")
    assert f"the service cannot {'read' if closed else 'see'} {away}/password" in said


def test_a_kubelet_that_is_wired_by_hand(tmp_path: Path) -> None:
    """Said before anything is touched; without wiring it the node is switched."""
    root = node(tmp_path).root
    unpacked(root.directory, {"/var/lib/k0s/x": ""})
    root.host("/usr/lib/systemd/system/kubelet.service").unlink()
    assert "to ExecStart of k0sworker" in refused(root)
    check(root, replace(request("1.0.0"), wire_kubelet=False))


def test_a_kubelet_that_its_distribution_wires(tmp_path: Path) -> None:
    """A removal would leave it without images."""
    root = node(tmp_path).root
    flag = "container-runtime-endpoint=unix:///var/run/image-cri-shim.sock"
    unpacked(
        root.directory,
        {
            "/var/lib/rancher/k3s/x": "",
            "/etc/rancher/k3s/config.yaml": f"kubelet-arg: [{flag}]\n",
            CONFIG: FILLED,
        },
    )
    root.host("/usr/lib/systemd/system/kubelet.service").unlink()
    do(root)
    with pytest.raises(NotSwitchedError, match="container-runtime-endpoint"):
        check(root, replace(request("1.0.0"), mode=Mode.REMOVE))
