"""Installing and taking it back, on unpacked machines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shimcore.errors import ShimError
from shimcore.systemd.changes import diff
from shimcore.systemd.command import command_path
from shimcore.systemd.install import Plan, Request, install, plan, unreadable
from shimcore.systemd.record import RECORD
from shimcore.systemd.root import Root
from shimcore.systemd.systemctl import ServiceControl
from shimcore.systemd.uninstall import plan_removal, uninstall
from shimcore.systemd.units import BYPASS, BYPASS_LINK, SERVICE, SOCKET
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

SERVICE_FILE = f"/etc/systemd/system/{SERVICE}"
SOCKET_FILE = f"/etc/systemd/system/{SOCKET}"
WANTED = f"/etc/systemd/system/multi-user.target.wants/{SERVICE}"
KUBELET_CONFIG = "/var/lib/kubelet/config.yaml"
READY = {**KUBEADM, CONFIG: FILLED}


def do(
    wanted: Request, control: ServiceControl | None = None, *, now: bool = False
) -> tuple[Plan, list[str]]:
    planned = plan(wanted)
    return planned, list(install(planned, control, now=now))


def undo(
    root: Root,
    control: ServiceControl | None = None,
    *,
    purge: bool = False,
    force: bool = False,
) -> list[str]:
    removal = plan_removal(root, CONFIG, purge=purge, force=force)
    return [*removal.notes, *uninstall(removal, control)]


def edit(root: Root, path: str, old: str, new: str) -> None:
    place = root.host(path)
    text = place.read_text()
    assert old in text
    place.write_text(text.replace(old, new))


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


class TestChangedByHand:
    def test_a_unit_is_not_overwritten(self, tmp_path: Path) -> None:
        """Installing again names it, and changes nothing without --force."""
        root = unpacked(tmp_path, READY)
        do(request(root))
        edit(root, SERVICE_FILE, "WatchdogSec=30", "WatchdogSec=60")
        with pytest.raises(ShimError, match=SERVICE):
            plan(request(root))
        do(request(root, force=True))
        assert "WatchdogSec=30" in (root.text(SERVICE_FILE) or "")

    def test_a_unit_is_not_thrown_away(self, tmp_path: Path) -> None:
        """Nor by uninstalling; with --force what was there before comes back."""
        root = unpacked(tmp_path, READY)
        before = tree(root)
        do(request(root))
        edit(root, SERVICE_FILE, "WatchdogSec=30", "WatchdogSec=60")
        after = tree(root)
        with pytest.raises(ShimError, match=SERVICE):
            undo(root)
        assert tree(root) == after
        undo(root, force=True)
        assert tree(root) == before

    def test_the_rest_of_kubelets_configuration_stays_changed(self, tmp_path: Path) -> None:
        """Only the endpoints go back to what they were."""
        root = unpacked(tmp_path, READY)
        do(request(root))
        edit(root, KUBELET_CONFIG, "10.96.0.10", "10.96.0.99")
        notes = undo(root)
        assert root.text(KUBELET_CONFIG) == KUBEADM[KUBELET_CONFIG].replace("0.10", "0.99")
        assert any("only our part" in note for note in notes)

    def test_kubeadm_has_written_it_anew(self, tmp_path: Path) -> None:
        """The new text gets the endpoints again, and is what uninstalling leads back to."""
        root = unpacked(tmp_path, READY)
        do(request(root))
        new = KUBEADM[KUBELET_CONFIG] + "maxPods: 99\n"
        root.host(KUBELET_CONFIG).write_text(new)
        do(request(root))
        assert SHIM in (root.text(KUBELET_CONFIG) or "")
        undo(root)
        assert root.text(KUBELET_CONFIG) == new

    def test_a_file_that_is_gone_stays_gone(self, tmp_path: Path) -> None:
        """`kubeadm reset` removed kubelet's configuration: it is not brought back."""
        root = unpacked(tmp_path, READY)
        do(request(root))
        root.host(KUBELET_CONFIG).unlink()
        undo(root)
        assert not root.exists(KUBELET_CONFIG)

    def test_a_damaged_original_is_said(self, tmp_path: Path) -> None:
        """Nothing is restored from a backup that is not what was taken."""
        root = unpacked(tmp_path, READY)
        do(request(root))
        for original in root.host("/var/lib/image-cri-shim/originals").iterdir():
            original.write_text("else")
        with pytest.raises(ShimError, match="missing or damaged"):
            undo(root)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "{}",
            "[]",
            '{"version": 9}',
            "[" * 100_000,
            '{"version": 1, "was_active": true, "directories": [5], "files": []}',
            '{"version": 1, "was_active": true, "directories": [], "files": {"a": 1}}',
            '{"version": 1, "was_active": true, "directories": [], "files": [{"path": 5, '
            '"before": null, "after": null, "edit": null, "wiring": false}]}',
            '{"version": 1, "was_active": true, "directories": [], "files": [{"path": "/etc/x", '
            '"before": {"link": 7}, "after": null, "edit": null, "wiring": false}]}',
            '{"version": 1, "was_active": true, "directories": [], "files": [{"path": "/etc/x", '
            '"before": null, "after": null, "edit": {"kind": "keys", "ours": "x", "old": [5]}, '
            '"wiring": false}]}',
        ],
    )
    def test_a_broken_record_is_said(self, tmp_path: Path, text: str) -> None:
        """And nothing is guessed."""
        root = unpacked(tmp_path, {RECORD: text})
        with pytest.raises(ShimError, match=RECORD):
            plan_removal(root, CONFIG)


class RunningShim:
    """A shim of another version, or of this one, and what it was asked."""

    def __init__(self, other: bool) -> None:
        self.asked: list[str] = []
        self._other = other

    def is_other_version(self) -> bool:
        return self._other

    def hand_over_or_restart(self, control: ServiceControl) -> str:
        del control
        self.asked.append("hand over")
        return "handed over"


HAND_OVERS = [
    (True, False, ["hand over"]),
    (False, True, ["hand over"]),
    (False, False, []),
]


class TestSystemd:
    def test_the_first_start(self, tmp_path: Path) -> None:
        """The socket before the service, both before kubelet."""
        control = NotedSystemd({"kubelet.service"})
        do(request(unpacked(tmp_path, READY)), control, now=True)
        assert control.asked == [
            "daemon-reload",
            f"stop {SOCKET} {SERVICE} {BYPASS}",
            f"start {SOCKET}",
            f"start {SERVICE}",
            "daemon-reload",
            "restart kubelet.service",
        ]

    def test_without_now_nothing_is_started(self, tmp_path: Path) -> None:
        """What is left to do is said."""
        control = NotedSystemd({"kubelet.service"})
        _, lines = do(request(unpacked(tmp_path, READY)), control)
        assert set(control.asked) == {"daemon-reload"}
        assert "restart kubelet.service" in lines[-1]

    def test_the_second_start_touches_nothing_that_runs(self, tmp_path: Path) -> None:
        """A service that runs is not restarted, kubelet neither."""
        root = unpacked(tmp_path, READY)
        control = NotedSystemd({"kubelet.service"})
        do(request(root), control, now=True)
        control.asked.clear()
        do(request(root), control, now=True)
        assert control.asked == [f"start {SERVICE}"]

    def test_a_new_service_text_restarts_the_service_alone(self, tmp_path: Path) -> None:
        """The socket stays, so that kubelet's connections wait."""
        root = unpacked(tmp_path, READY)
        control = NotedSystemd()
        do(request(root, wire=False), control, now=True)
        control.asked.clear()
        wanted = request(root, wire=False)
        moved = Request(root, CONFIG, "/opt/bin/image-cri-shim", wanted.completions)
        do(moved, control, now=True)
        assert control.asked == ["daemon-reload", f"restart {SERVICE}"]

    @pytest.mark.parametrize(("other", "moves", "asked"), HAND_OVERS)
    def test_a_service_that_runs_hands_over(
        self, tmp_path: Path, other: bool, moves: bool, asked: list[str]
    ) -> None:
        """Where it is of another version or its unit changes; else it is left alone."""
        root = unpacked(tmp_path, READY)
        control = NotedSystemd()
        do(request(root, wire=False), control, now=True)
        control.asked.clear()
        command = "/opt/bin/image-cri-shim" if moves else request(root).command
        wanted = Request(root, CONFIG, command, request(root, wire=False).completions)
        running = RunningShim(other)
        list(install(plan(wanted), control, now=True, running=running))
        assert [one for one in control.asked if one != "daemon-reload"] == []
        assert running.asked == asked

    def test_a_shim_that_does_not_start_leaves_kubelet_alone(self, tmp_path: Path) -> None:
        """kubelet's files are as they were."""
        root = unpacked(tmp_path, READY)
        control = NotedSystemd({"kubelet.service"}, fails=f"start {SERVICE}")
        with pytest.raises(ShimError):
            do(request(root), control, now=True)
        assert root.text(KUBELET_CONFIG) == KUBEADM[KUBELET_CONFIG]

    def test_what_fails_before_kubelet_leaves_it_alone(self, tmp_path: Path) -> None:
        """It is looked at after the start, and before the first of kubelet's files changes."""
        root = unpacked(tmp_path, READY)
        control = NotedSystemd({"kubelet.service"})

        def stands() -> None:
            assert control.is_active(SERVICE)
            raise ShimError("kubelet is as it was")

        with pytest.raises(ShimError, match="as it was"):
            list(install(plan(request(root)), control, now=True, before_kubelet=stands))
        assert root.text(KUBELET_CONFIG) == KUBEADM[KUBELET_CONFIG]
        assert "restart kubelet.service" not in control.asked

    def test_the_way_back(self, tmp_path: Path) -> None:
        """kubelet first, then the shim ends."""
        root = unpacked(tmp_path, READY)
        control = NotedSystemd({"kubelet.service"})
        do(request(root), control, now=True)
        control.asked.clear()
        undo(root, control)
        assert control.asked == [
            "daemon-reload",
            "restart kubelet.service",
            f"stop {SOCKET} {SERVICE} {BYPASS}",
            "daemon-reload",
        ]

    def test_the_service_of_before_runs_again(self, tmp_path: Path) -> None:
        """A Go shim of the same name that ran before it was replaced."""
        root = unpacked(tmp_path, {**READY, SERVICE_FILE: "[Service]\nExecStart=/usr/bin/old\n"})
        control = NotedSystemd({SERVICE})
        do(request(root), control, now=True)
        undo(root, control)
        assert control.asked[-1] == f"start {SERVICE}"


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
        assert unreadable([str(place)]) == ([] if readable else [str(place)])

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
