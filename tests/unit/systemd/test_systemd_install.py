"""Installing and taking it back, on unpacked machines."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shimcore.errors import ShimError
from shimcore.systemd import uninstall as removal_room
from shimcore.systemd.changes import Change, Changes, diff
from shimcore.systemd.command import command_path
from shimcore.systemd.entries import File
from shimcore.systemd.install import install, plan
from shimcore.systemd.places import closed
from shimcore.systemd.record import ORIGINALS
from shimcore.systemd.root import Root
from shimcore.systemd.uninstall import plan_removal
from shimcore.systemd.units import BYPASS_LINK, SOCKET, STATE_DIR, UNITS
from tests.unit.systemd.installed import KUBELET_CONFIG, READY, SERVICE_FILE, do, edit, undo
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
from tests.unit.systemd.wired import mount_read_only

SOCKET_FILE = f"/etc/systemd/system/{SOCKET}"


class TestThereAndBack:
    def test_everything_is_put_back_byte_for_byte(self, tmp_path: Path) -> None:
        """Contents, modes and links; and no file or directory stays."""
        root = unpacked(
            tmp_path,
            {**READY, "/etc/crictl.yaml": "timeout: 10 # s\n", SERVICE_FILE: "[Service]\n"},
        )
        root.host(KUBELET_CONFIG).chmod(0o640)
        before = tree(root)
        do(request(root))
        assert tree(root) != before
        undo(root)
        assert tree(root) == before

    def test_an_empty_machine_is_empty_again(self, tmp_path: Path) -> None:
        """Without kubelet, without a configuration."""
        root = unpacked(tmp_path, {"/etc/hostname": "node\n"})
        before = tree(root)
        do(request(root, wire=False))
        assert tree(root)[CONFIG][0] == "0o100600"
        undo(root)
        assert tree(root) == before

    def test_twice_is_once(self, tmp_path: Path) -> None:
        """The second time nothing changes, and the way back is the same."""
        root = unpacked(tmp_path, READY)
        before = tree(root)
        do(request(root))
        after = tree(root)
        planned, lines = do(request(root))
        assert not planned
        assert lines == []
        assert tree(root) == after
        undo(root)
        assert tree(root) == before

    def test_what_it_keeps_is_roots_alone(self, tmp_path: Path) -> None:
        """As the service has its folder at its start; others are as folders of the system are."""
        root = unpacked(tmp_path, READY)
        do(request(root))
        modes = {path: root.host(path).stat().st_mode & 0o777 for path in (STATE_DIR, ORIGINALS)}
        assert modes == {STATE_DIR: 0o700, ORIGINALS: 0o700}
        assert root.host("/etc/systemd/system").stat().st_mode & 0o777 == 0o755

    def test_nothing_that_the_service_kept_stays(self, tmp_path: Path) -> None:
        """Nor what a process has left that was killed while it wrote: passwords may be in it."""
        root = unpacked(tmp_path, READY)
        do(request(root))
        kept = ("last-good.json", ".last-good.json.17", ".kubernetes.json.17", "bypass.new")
        for name in (*kept, "pulls.journal.new", "pulls.journal.2.new", "mine"):
            root.host(f"/var/lib/image-cri-shim/{name}").touch()
        undo(root)
        assert list(root.names("/var/lib/image-cri-shim")) == ["mine"]

    def test_nothing_stays_in_a_folder_of_its_own(self, tmp_path: Path) -> None:
        """`stateDir` of the configuration is cleared too, of what the shim keeps."""
        root = unpacked(tmp_path, READY)
        do(request(root))
        edit(root, CONFIG, FILLED, FILLED + "stateDir: /data/shim\n")
        root.host("/data/shim").mkdir(parents=True)
        kept = ("last-good.json", "kubernetes.json", "pulls.journal", "pulls.journal.lock")
        for name in (*kept, ".last-good.json.17", "mine"):
            root.host(f"/data/shim/{name}").touch()
        undo(root)
        assert list(root.names("/data/shim")) == ["mine"]

    def test_a_folder_of_its_own_that_does_not_answer(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As on a dead NFS: all else is taken back, and it is told what stays."""
        root = unpacked(tmp_path, READY)
        before = tree(root)
        do(request(root))
        edit(root, CONFIG, FILLED, FILLED + "stateDir: /nfs/shim\n")
        answers, names = threading.Event(), Root.names

        def hang(root: Root, path: str) -> Iterator[str]:
            assert path != "/nfs/shim" or answers.wait(20)
            return names(root, path)

        monkeypatch.setattr(Root, "names", hang)
        monkeypatch.setattr(removal_room, "SILENT_S", 0.1)
        lines = undo(root)
        answers.set()
        stays = "/nfs/shim keeps what the shim had there, which may have passwords"
        assert f"{stays}: remove it by hand (it does not answer)" in lines
        assert set(tree(root)) == set(before)

    def test_in_two_steps(self, tmp_path: Path) -> None:
        """First the service, then kubelet: the way back leads before the first."""
        root = unpacked(tmp_path, READY)
        before = tree(root)
        do(request(root, wire=False))
        do(request(root, wire=True))
        undo(root)
        assert tree(root) == before

    def test_an_upgrade_keeps_the_way_back(self, tmp_path: Path) -> None:
        """New texts and a new socket over an old installation of ours."""
        root = unpacked(tmp_path, READY)
        before = tree(root)
        do(request(root))
        edit(root, CONFIG, FILLED, FILLED + "shim: /run/other/s.sock\n")
        planned, _ = do(request(root))
        assert {change.path for change in planned.changes} >= {SOCKET_FILE, KUBELET_CONFIG}
        assert "imageServiceEndpoint: unix:///run/other/s.sock" in (root.text(KUBELET_CONFIG) or "")
        undo(root)
        assert tree(root)[KUBELET_CONFIG] == before[KUBELET_CONFIG]
        assert set(tree(root)) == set(before)

    def test_after_an_interruption(self, tmp_path: Path) -> None:
        """What was written before the power went is taken back."""
        root = unpacked(tmp_path, READY)
        before = tree(root)
        steps = install(plan(request(root)), None, now=False)
        for _ in range(3):
            next(steps)
        undo(root)
        assert tree(root) == before

    def test_planning_changes_nothing(self, tmp_path: Path) -> None:
        """Neither the plan nor its diff, nor the plan of the way back."""
        root = unpacked(tmp_path, READY)
        before = tree(root)
        lines = [line for change in plan(request(root)).changes for line in diff(root, change)]
        assert f'+containerRuntimeEndpoint: "{SHIM}"' in lines
        assert tree(root) == before
        do(request(root))
        after = tree(root)
        plan_removal(root, CONFIG)
        assert tree(root) == after

    def test_links_do_not_lead_out(self, tmp_path: Path) -> None:
        """An absolute link inside an image means the image's file, and stays a link."""
        root = unpacked(tmp_path / "image", {**READY, "/srv/k.yaml": "a: 1\n"})
        root.host(KUBELET_CONFIG).unlink()
        os.symlink("/srv/k.yaml", root.directory / KUBELET_CONFIG.lstrip("/"))
        before = tree(root)
        do(request(root))
        assert SHIM in (root.text("/srv/k.yaml") or "")
        assert (root.directory / KUBELET_CONFIG.lstrip("/")).is_symlink()
        undo(root)
        assert tree(root) == before

    def test_a_masked_unit_is_masked_again(self, tmp_path: Path) -> None:
        """A link to /dev/null in the unit's place is replaced and restored."""
        root = unpacked(tmp_path, READY)
        place = root.directory / SERVICE_FILE.lstrip("/")
        place.parent.mkdir(parents=True)
        place.symlink_to("/dev/null")
        before = tree(root)
        do(request(root))
        assert "[Service]" in (root.text(SERVICE_FILE) or "")
        undo(root)
        assert tree(root) == before


class TestReadOnly:
    """A file system that takes no writes is seen before the first one: nothing is half done."""

    @pytest.mark.parametrize("folder", [UNITS, STATE_DIR])
    def test_an_installation(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
    ) -> None:
        """Of the service's own files."""
        root = unpacked(tmp_path, READY)
        root.host(folder).mkdir(parents=True, exist_ok=True)
        before = tree(root)
        with monkeypatch.context() as patch:
            mount_read_only(patch, root, folder)
            with pytest.raises(ShimError, match=f"^{folder}: its file system is read-only: mount"):
                do(request(root))
        assert tree(root) == before

    @pytest.mark.parametrize("folder", ["/var/lib/kubelet", "/etc/systemd/system", STATE_DIR])
    def test_a_removal(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
        """Kubelet would be without a runtime, or the shim without its record."""
        root = unpacked(tmp_path, READY)
        before = tree(root)
        do(request(root))
        installed = tree(root)
        control = NotedSystemd({"kubelet.service"})
        with monkeypatch.context() as patch:
            mount_read_only(patch, root, folder)
            with pytest.raises(ShimError, match=f"^{folder}.*; nothing was changed$"):
                undo(root, control)
        assert (tree(root), control.asked) == (installed, [])
        undo(root)
        assert tree(root) == before

    def test_where_a_link_leads(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Is no matter: the link is changed."""
        root = unpacked(tmp_path, {"/usr/lib/x.service": "", "/etc/hostname": "node\n"})
        root.host("/etc/x.service").symlink_to("/usr/lib/x.service")
        mount_read_only(monkeypatch, root, "/usr")
        Changes(root, [Change("/etc/x.service", None)], []).refuse_read_only()


class TestTemplate:
    def test_it_is_to_be_filled_in_first(self, tmp_path: Path) -> None:
        """Nothing is started and kubelet is left alone until the hub is named."""
        root = unpacked(tmp_path, KUBEADM)
        control = NotedSystemd()
        planned, _ = do(request(root), control, now=True)
        assert not planned.filled
        assert control.asked == ["daemon-reload"]
        assert root.text(KUBELET_CONFIG) == KUBEADM[KUBELET_CONFIG]

    def test_it_knows_kubelets_runtime(self, tmp_path: Path) -> None:
        """What kubelet's endpoint was is the runtime of the shim."""
        root = unpacked(tmp_path, KUBEADM)
        do(request(root))
        assert f"\ncri: {CONTAINERD}\n" in (root.text(CONFIG) or "")

    def test_filled_in_it_stays(self, tmp_path: Path) -> None:
        """Uninstalling keeps the operator's text unless it is told not to."""
        root = unpacked(tmp_path, KUBEADM)
        do(request(root))
        edit(root, CONFIG, "\naddress:\n", "\naddress: http://hub:5000\n")
        do(request(root))
        notes = undo(root)
        assert any("stays" in note for note in notes)
        assert "hub:5000" in (root.text(CONFIG) or "")

    def test_purged_it_goes(self, tmp_path: Path) -> None:
        """With --purge the machine is as it was."""
        root = unpacked(tmp_path, KUBEADM)
        before = tree(root)
        do(request(root))
        edit(root, CONFIG, "\naddress:\n", "\naddress: http://hub:5000\n")
        undo(root, purge=True)
        assert tree(root) == before


class TestBypass:
    @pytest.mark.parametrize(
        ("config", "leads"),
        [
            (FILLED, True),
            (FILLED + "fallback: deny\n", False),
            (FILLED + "fallback: deny\nonFailure: bypass\n", True),
            (FILLED + "onFailure: closed\n", False),
        ],
    )
    def test_where_the_configuration_allows_it(
        self, tmp_path: Path, config: str, leads: bool
    ) -> None:
        """It leads to the runtime that kubelet had; what the shim has written stays."""
        root = unpacked(tmp_path, {**KUBEADM, CONFIG: config})
        before = tree(root)
        do(request(root))
        link = root.host(BYPASS_LINK, last=False)
        assert link.is_symlink() == leads
        if leads:
            assert os.readlink(link) == "/run/containerd/containerd.sock"
            link.unlink()
            link.symlink_to("/run/other.sock")
            do(request(root))
            assert os.readlink(link) == "/run/other.sock"
        undo(root)
        assert tree(root) == before

    def test_a_configuration_that_closes_it(self, tmp_path: Path) -> None:
        """Installed again, the way is gone."""
        root = unpacked(tmp_path, READY)
        do(request(root))
        edit(root, CONFIG, FILLED, FILLED + "onFailure: closed\n")
        do(request(root))
        assert not root.host(BYPASS_LINK, last=False).is_symlink()


@pytest.mark.parametrize(
    ("config", "path"),
    [
        (f"{FILLED}shim: null\nadmin: ~\ncri: ~\nstateDir: null\n", "/run/image-cri-shim.sock"),
        (f"{FILLED}onFailure: null\nfallback:\n---\n", "/run/image-cri-shim.sock"),
        (f"{FILLED}shim: ' '\nonFailure: ' bypass '\n", "/run/image-cri-shim.sock"),
        (f"{FILLED}shim: ' unix:///run/x.sock '\t# ours\n", "/run/x.sock"),
        ("hub: &a {}\n<<: {address: 'http://sealos.hub:5000', shim: /run/x.sock}\n", "/run/x.sock"),
    ],
)
def test_its_configuration_is_read_as_it_is_served(tmp_path: Path, config: str, path: str) -> None:
    """Nulls, blanks, tabs, empty documents and merged keys."""
    planned = plan(request(unpacked(tmp_path, {CONFIG: config}), wire=False))
    (socket,) = (each for each in planned.changes if each.path == f"{UNITS}/{SOCKET}")
    assert isinstance(socket.entry, File)
    assert f"ListenStream={path}\n" in socket.entry.content.decode()
    assert planned.filled
    assert planned.bypass


class TestRefusals:
    @pytest.mark.parametrize(
        ("config", "said"),
        [
            ("address: x\nshim: relative.sock\n", "shim: an absolute path"),
            ("address: x\ncri: unix:///tmp/containerd.sock\n", "cri: the service cannot see"),
            ("- x\n", "not a mapping"),
        ],
    )
    def test_a_configuration_that_no_unit_can_follow(
        self, tmp_path: Path, config: str, said: str
    ) -> None:
        """It is said before anything changes."""
        root = unpacked(tmp_path, {CONFIG: config})
        with pytest.raises(ShimError, match=said):
            plan(request(root, wire=False))

    @pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
    @pytest.mark.parametrize(
        ("owner", "group", "mode", "readable"),
        [
            (0, 0, 0o600, True),
            (1000, 1000, 0o600, False),
            (1000, 1000, 0o604, True),
            (1000, 0, 0o640, True),
            (1000, 1000, 0o640, False),
        ],
    )
    def test_a_file_that_root_cannot_read_without_powers(
        self, tmp_path: Path, owner: int, group: int, mode: int, readable: bool
    ) -> None:
        """The service has none of root's capabilities."""
        place = tmp_path / "password"
        place.touch()
        place.chmod(mode)
        os.chown(place, owner, group)
        found = [(each.path, each.at) for each in closed([str(place)], Root(tmp_path))]
        assert found == ([] if readable else [(str(place), str(place))])

    @pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
    @pytest.mark.parametrize(
        ("owner", "group", "mode", "open_to_it"),
        [
            (0, 0, 0o700, True),
            (1000, 1000, 0o750, False),
            (1000, 1000, 0o711, True),
            (1000, 0, 0o710, True),
            (1000, 0, 0o701, False),
        ],
    )
    @pytest.mark.parametrize("linked", [False, True])
    def test_a_folder_that_root_cannot_enter_without_powers(
        self, tmp_path: Path, owner: int, group: int, mode: int, open_to_it: bool, linked: bool
    ) -> None:
        """A home, say: it is named, also where a link leads into it."""
        home = tmp_path / "alice"
        named = tmp_path / "link" if linked else home / "ca/hub.pem"
        (home / "ca").mkdir(parents=True)
        (home / "ca/hub.pem").touch(0o644)
        (tmp_path / "link").symlink_to(home / "ca/hub.pem")
        home.chmod(mode)
        os.chown(home, owner, group)
        found = [(str(each), each.mend) for each in closed([str(named)], Root(tmp_path))]
        why = f"the service cannot read {named}, since it cannot enter {home}"
        mend = f"chmod a+x {home}  # or keep {named} elsewhere, below /etc"
        assert found == ([] if open_to_it else [(why, mend)])

    def test_a_read_only_place_for_completions_is_no_failure(self, tmp_path: Path) -> None:
        """They are left out, with a line that says so."""
        root = unpacked(tmp_path, {CONFIG: FILLED, "/usr/local/share": "a file\n"})
        _, lines = do(request(root, wire=False))
        assert any(line.startswith("left out: /usr/local/share") for line in lines)
        undo(root)
        assert root.text("/usr/local/share") == "a file\n"


class TestCommandPath:
    def test_the_command_that_runs(self, tmp_path: Path) -> None:
        """As it was called; a link in the path stays one."""
        target = tmp_path / "opt" / "image-cri-shim"
        target.parent.mkdir()
        target.write_text("#!/bin/sh\n")
        target.chmod(0o755)
        link = tmp_path / "image-cri-shim"
        link.symlink_to(target)
        assert command_path(Root(), str(link)) == str(link)

    def test_the_command_of_an_image(self, tmp_path: Path) -> None:
        """Not this machine's own."""
        root = unpacked(tmp_path, {"/usr/bin/image-cri-shim": "#!/bin/sh\n"})
        with pytest.raises(ShimError, match="--command"):
            command_path(root, "/nowhere/image-cri-shim")
        root.host("/usr/bin/image-cri-shim").chmod(0o755)
        assert command_path(root) == "/usr/bin/image-cri-shim"
