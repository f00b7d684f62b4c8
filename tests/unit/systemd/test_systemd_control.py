"""What systemd is asked while the shim is installed and removed, and in which order."""

from __future__ import annotations

from pathlib import Path

import pytest

from shimcore.errors import ShimError
from shimcore.systemd import uninstall
from shimcore.systemd.install import Request, install, plan
from shimcore.systemd.kubelet_way import KubeletWay, Way, kubelet_way
from shimcore.systemd.root import Root
from shimcore.systemd.systemctl import ServiceControl
from shimcore.systemd.units import BYPASS, SERVICE, SOCKET
from tests.unit.systemd.installed import KUBELET_CONFIG, READY, SERVICE_FILE, do, edit, undo
from tests.unit.systemd.machines import (
    CONFIG,
    CONTAINERD,
    KUBEADM,
    SHIM,
    KilledError,
    NotedSystemd,
    request,
    unpacked,
)


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

    @pytest.mark.parametrize("killed", [True, False])
    def test_a_removal_that_ends_before_kubelets_restart(
        self, tmp_path: Path, killed: bool
    ) -> None:
        """The second one restarts kubelet before the shim ends, though its files are right."""
        root = unpacked(tmp_path, READY)
        control = NotedSystemd({"kubelet.service"})
        do(request(root), control, now=True)
        said = "restart kubelet.service"
        broken = NotedSystemd(
            {"kubelet.service", SERVICE},
            fails="" if killed else said,
            killed=said if killed else "",
        )
        with pytest.raises(KilledError if killed else ShimError):
            undo(root, broken)
        assert root.text(KUBELET_CONFIG) == KUBEADM[KUBELET_CONFIG]
        assert SERVICE in broken.active
        control.asked.clear()
        undo(root, control)
        assert control.asked[:3] == [
            "daemon-reload",
            "restart kubelet.service",
            f"stop {SOCKET} {SERVICE} {BYPASS}",
        ]

    def test_kubelets_files_were_put_back_by_hand(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A process that has not read that is restarted; it is not refused as wired by hand."""
        root = unpacked(tmp_path, READY)
        control = NotedSystemd({"kubelet.service"})
        do(request(root), control, now=True)
        for path, text in KUBEADM.items():
            root.host(path).write_text(text)

        def way(root: Root, shim_socket: str, proc: Path | None = None) -> KubeletWay:
            if proc is not None:
                return kubelet_way(root, shim_socket, proc)
            return KubeletWay(Way.WIRED, f"unix://{shim_socket}", running=True)

        monkeypatch.setattr(uninstall, "kubelet_way", way)
        control.asked.clear()
        undo(root, control)
        assert control.asked[1] == "restart kubelet.service"

    def test_a_kubelet_that_has_not_read_what_was_wired_by_hand(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It would be without a runtime after its next start."""
        root = unpacked(tmp_path, READY)
        do(request(root, wire=False))
        edit(root, "/var/lib/kubelet/kubeadm-flags.env", CONTAINERD, SHIM)

        def way(root: Root, shim_socket: str, proc: Path | None = None) -> KubeletWay:
            if proc is not None:
                return kubelet_way(root, shim_socket, proc)
            return KubeletWay(Way.NOT_WIRED, CONTAINERD, running=True)

        monkeypatch.setattr(uninstall, "kubelet_way", way)
        with pytest.raises(ShimError, match="by hand"):
            undo(root)

    def test_the_service_of_before_runs_again(self, tmp_path: Path) -> None:
        """A Go shim of the same name that ran before it was replaced."""
        root = unpacked(tmp_path, {**READY, SERVICE_FILE: "[Service]\nExecStart=/usr/bin/old\n"})
        control = NotedSystemd({SERVICE})
        do(request(root), control, now=True)
        undo(root, control)
        assert control.asked[-1] == f"start {SERVICE}"
