"""The files of k3s: what they tell kubelet together, and the drop-in that has the last word."""

from __future__ import annotations

from pathlib import Path

import pytest

from shimcore.errors import ShimError
from shimcore.systemd.install import install, plan
from shimcore.systemd.root import Root
from shimcore.systemd.uninstall import plan_removal, uninstall
from tests.unit.systemd.machines import (
    CONFIG,
    FILLED,
    SHIM,
    NotedSystemd,
    request,
    tree,
    unpacked,
)

ARGUMENT = f"container-runtime-endpoint={SHIM}"
FOLDER = "/etc/rancher/k3s/config.yaml.d"
OURS = f"{FOLDER}/99-image-cri-shim.yaml"
POD_LIMIT = "kubelet-arg:\n- max-pods=200\n"


def k3s(directory: Path, files: dict[str, str], command: str = "server") -> Root:
    """A node of k3s: files of its configuration's folder by name, others by path."""
    placed = {path if path[0] == "/" else f"{FOLDER}/{path}": text for path, text in files.items()}
    unit = f"[Service]\nEnvironmentFile=-/etc/default/%N\nExecStart=/usr/local/bin/k3s {command}\n"
    service = {"/etc/systemd/system/k3s.service": unit, "/var/lib/rancher/k3s/x": ""}
    return unpacked(directory, {CONFIG: FILLED, **service, **placed})


def written(root: Root) -> list[str]:
    """The files of k3s' that an installation would change."""
    return [each.path for each in plan(request(root)).for_kubelet]


@pytest.mark.parametrize(
    ("files", "wired"),
    [
        ({"a.yaml": f"kubelet-arg: [v=2, {ARGUMENT}]\n"}, True),
        ({"a.yaml": f"kubelet-arg: {ARGUMENT}\n"}, True),
        ({"a.yaml": f"kubelet-arg: --{ARGUMENT}\n", "b.yml": "kubelet-arg+: v=2\n"}, True),
        ({"a.YAML": f"kubelet-arg: {ARGUMENT}\n---\nkubelet-arg: v=2\n"}, True),
        ({"/etc/rancher/k3s/config.yaml": f"kubelet-arg: {ARGUMENT}\n"}, True),
        ({"a.yaml": f"kubelet-arg: {ARGUMENT}\n", "b.yaml": POD_LIMIT}, False),
        ({"b.yaml": f"kubelet-arg: {ARGUMENT}\n", "a.yaml": POD_LIMIT}, True),
        ({"a.yaml": f"kubelet-arg: {ARGUMENT}\n", "b.yaml": "kubelet-arg:\n"}, False),
        ({"a.yaml": f"kubelet-arg: [{ARGUMENT}, {ARGUMENT}x]\n"}, False),
        ({"a.yaml": f"kubelet-arg:\n- v=2\n# - {ARGUMENT}\n"}, False),
        ({"a.yaml": f"kube-proxy-arg: {ARGUMENT}\n"}, False),
        ({"a.yaml": f"kubelet-arg:\t# ours\n- {ARGUMENT}\n---\n"}, True),
        ({"a.yaml.bak": f"kubelet-arg: {ARGUMENT}\n"}, False),
    ],
)
def test_what_they_say_together(tmp_path: Path, files: dict[str, str], wired: bool) -> None:
    """As k3s reads them: the last file that has the key counts, or adds to it with a `+`."""
    assert (written(k3s(tmp_path, files)) == []) == wired


@pytest.mark.parametrize(
    ("files", "ours"),
    [
        ({}, OURS),
        ({"/etc/rancher/k3s/config.yaml": POD_LIMIT, "50-x.yaml": POD_LIMIT}, OURS),
        ({"kubelet.yaml": "token: x\nkubelet-arg+: v=2\n"}, OURS),
        ({"99-max-pods.yaml": POD_LIMIT}, f"{FOLDER}/99-max-pods.yaml-image-cri-shim.yaml"),
        (
            {"kubelet.yaml": POD_LIMIT, "z.yml": "token: x\n"},
            f"{FOLDER}/z.yml-image-cri-shim.yaml",
        ),
        (
            {"z.yaml": f"kubelet-arg+: {ARGUMENT}x\n"},
            f"{FOLDER}/z.yaml-image-cri-shim.yaml",
        ),
    ],
)
def test_the_drop_in_has_the_last_word(tmp_path: Path, files: dict[str, str], ours: str) -> None:
    """Its name is the usual one where that is enough; it is taken away whatever its name."""
    root = k3s(tmp_path, files)
    before = tree(root)
    assert written(root) == [ours]
    list(install(plan(request(root)), None, now=True))
    assert written(root) == []
    list(uninstall(plan_removal(root, CONFIG), None))
    assert tree(root) == before


def test_images_are_asked_for_elsewhere(tmp_path: Path) -> None:
    """By a flag of their own: the drop-in has that, too."""
    root = k3s(tmp_path, {"10.yaml": "kubelet-arg: image-service-endpoint=unix:///run/x.sock\n"})
    assert written(root) == [OURS]
    list(install(plan(request(root)), None, now=True))
    assert (root.text(OURS) or "").splitlines()[1:] == [
        "kubelet-arg+:",
        f"  - {ARGUMENT}",
        f"  - image-service-endpoint={SHIM}",
    ]
    assert written(root) == []


def test_a_file_that_comes_later(tmp_path: Path) -> None:
    """The drop-in moves behind it, and one is there at a time."""
    root = k3s(tmp_path, {})
    list(install(plan(request(root)), None, now=True))
    later = {}
    for name in ("kubelet.yaml", "zz.yaml"):
        later[name] = POD_LIMIT
        k3s(tmp_path, later)
        before = {each for each in root.names(FOLDER) if "image-cri-shim" in each}
        control = NotedSystemd({"k3s.service"})
        said = list(install(plan(request(root)), control, now=True))
        moved = f"{name}-image-cri-shim.yaml"
        assert f"wrote {FOLDER}/{moved}" in said
        assert [f"removed {FOLDER}/{each}" for each in before] == [
            each for each in said if each.startswith("removed")
        ]
        assert "restart k3s.service" in control.asked
        assert list(root.names(FOLDER)) == sorted([*later, moved])
        assert written(root) == []
    list(uninstall(plan_removal(root, CONFIG), None))
    assert tree(root) == tree(k3s(tmp_path / "new", later))


@pytest.mark.parametrize(
    ("command", "files", "folder"),
    [
        ("server '--config' '/opt/x.yaml'", {}, "/opt/x.yaml.d"),
        ("agent --debug -c=/opt/x.yaml", {}, "/opt/x.yaml.d"),
        ("server", {"/etc/default/k3s": "K3S_CONFIG_FILE=/opt/e.yaml\n"}, "/opt/e.yaml.d"),
        (
            "server --config /opt/x.yaml\nEnvironment=K3S_CONFIG_FILE=/opt/e.yaml",
            {},
            "/opt/e.yaml.d",
        ),
        ("server $ARGS", {"/etc/default/k3s": "ARGS='-c srv/y.yaml'\n"}, "/srv/y.yaml.d"),
        ("server --kube-proxy-arg config=/x -v 2", {}, FOLDER),
    ],
)
def test_they_are_elsewhere(
    tmp_path: Path, command: str, files: dict[str, str], folder: str
) -> None:
    """As the service's environment says, else its command."""
    root = k3s(tmp_path, {**files, "/opt/x.yaml": POD_LIMIT}, command)
    assert written(root) == [f"{folder}/99-image-cri-shim.yaml"]
    list(install(plan(request(root)), None, now=True))
    assert written(root) == []


@pytest.mark.parametrize("text", ["token: s3cret\n- x\n", "a: 2026-99-99\n", "- s3cret\n"])
def test_one_that_is_not_readable(tmp_path: Path, text: str) -> None:
    """It is named, and what it has is not."""
    root = k3s(tmp_path, {"a.yaml": text})
    with pytest.raises(ShimError, match=r"/config\.yaml\.d/a\.yaml: ") as refused:
        plan(request(root))
    assert "s3cret" not in str(refused.value)
