"""What somebody has changed since the installation is kept, and said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shimcore.errors import ShimError
from shimcore.systemd import kubelet, record
from shimcore.systemd.changes import CRICTL
from shimcore.systemd.entries import Entry, write
from shimcore.systemd.install import plan
from shimcore.systemd.record import ORIGINALS, RECORD
from shimcore.systemd.root import Root
from shimcore.systemd.uninstall import plan_removal
from shimcore.systemd.units import SERVICE
from tests.unit.systemd.installed import KUBELET_CONFIG, READY, SERVICE_FILE, do, edit, undo
from tests.unit.systemd.machines import (
    CONFIG,
    CONTAINERD,
    FILLED,
    KUBEADM,
    KUBEADM_FLAGS,
    SHIM,
    KilledError,
    request,
    tree,
    unpacked,
)

KUBELET_ENV = "/etc/kubelet.env"
TWO_VARIABLES = {
    CONFIG: FILLED,
    "/etc/systemd/system/kubelet.service": (
        f"[Service]\nEnvironmentFile={KUBELET_ENV}\nExecStart=/usr/bin/kubelet $A $B\n"
    ),
    KUBELET_ENV: (
        "A='--container-runtime-endpoint=unix:///run/a.sock'\n"
        "B='--v=2 --image-service-endpoint=unix:///run/b.sock'\n"
    ),
}
SPELLED = pytest.mark.parametrize(
    "spelled", [SHIM, SHIM.replace("//", "", 1), SHIM.replace("/var", "")]
)


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

    def test_bytes_that_are_not_utf8_stay(self, tmp_path: Path) -> None:
        """systemd takes them in comments: of units, of drop-ins and of environment files."""
        root = unpacked(tmp_path, READY)
        drop_in = "/usr/lib/systemd/system/kubelet.service.d/20.conf"
        root.host(drop_in).write_bytes(b"# Schl\xfcssel\n[Service]\n")
        flags = root.host("/var/lib/kubelet/kubeadm-flags.env")
        flags.write_bytes(b"# Schl\xfcssel\n" + flags.read_bytes())
        before = tree(root)
        do(request(root))
        assert flags.read_bytes().startswith(b"# Schl\xfcssel\nKUBELET_KUBEADM_ARGS=")
        assert SHIM.encode() in flags.read_bytes()
        flags.write_bytes(flags.read_bytes() + b"# \xe4\n")
        undo(root)
        assert flags.read_bytes().endswith(b"# \xe4\n")
        flags.write_bytes(flags.read_bytes().removesuffix(b"# \xe4\n"))
        assert tree(root) == before

    def test_yaml_that_is_not_utf8_is_named(self, tmp_path: Path) -> None:
        """Nothing is put back then."""
        root = unpacked(tmp_path, READY)
        do(request(root))
        config = root.host(KUBELET_CONFIG)
        config.write_bytes(config.read_bytes() + b"# Schl\xfcssel\n")
        before = tree(root)
        with pytest.raises(ShimError, match=f"^{KUBELET_CONFIG}: "):
            undo(root)
        assert tree(root) == before

    def test_a_file_that_is_gone_stays_gone(self, tmp_path: Path) -> None:
        """`kubeadm reset` removed kubelet's configuration: it is not brought back."""
        root = unpacked(tmp_path, READY)
        do(request(root))
        root.host(KUBELET_CONFIG).unlink()
        undo(root)
        assert not root.exists(KUBELET_CONFIG)

    @SPELLED
    def test_the_endpoints_are_in_two_variables(self, tmp_path: Path, spelled: str) -> None:
        """Of one file: each gets its own old value back, however ours is written by then."""
        root = unpacked(tmp_path, TWO_VARIABLES)
        do(request(root))
        edit(root, KUBELET_ENV, SHIM, spelled)
        edit(root, KUBELET_ENV, "A=", "# theirs\nA=")
        undo(root)
        assert root.text(KUBELET_ENV) == "# theirs\n" + TWO_VARIABLES[KUBELET_ENV]

    @pytest.mark.parametrize("variable", ["A", "B"])
    def test_version_1_0_0_recorded_one_of_them(self, tmp_path: Path, variable: str) -> None:
        """With both values: each goes back to the variable that had it."""
        root = unpacked(tmp_path, TWO_VARIABLES)
        do(request(root))
        known = json.loads(root.text(RECORD) or "")
        assert known["version"] == 2  # 1.0.0 refuses it, and would leave one of them
        (file,) = (each for each in known["files"] if each["path"] == KUBELET_ENV)
        ends = {name.rpartition(" ")[2]: old for name, old in file["edit"]["old"].items()}
        file["edit"] |= {"old": ends, "variable": variable}
        root.host(RECORD).write_text(json.dumps(known | {"version": 1}))
        edit(root, KUBELET_ENV, "A=", "# theirs\nA=")
        assert not plan(request(root))
        undo(root)
        assert root.text(KUBELET_ENV) == "# theirs\n" + TWO_VARIABLES[KUBELET_ENV]

    def test_one_variable_is_recorded_as_ever(self, tmp_path: Path) -> None:
        """So that 1.0.0 can take it back."""
        root = unpacked(tmp_path, READY)
        do(request(root))
        assert json.loads(root.text(RECORD) or "")["version"] == 1

    @SPELLED
    def test_a_key_of_kubelets(self, tmp_path: Path, spelled: str) -> None:
        """As well."""
        root = unpacked(tmp_path, READY)
        do(request(root))
        edit(root, KUBELET_CONFIG, SHIM, spelled)
        undo(root)
        assert root.text(KUBELET_CONFIG) == KUBEADM[KUBELET_CONFIG]

    def test_the_endpoint_was_moved(self, tmp_path: Path) -> None:
        """To where nobody looks for it: the shim stays, unless it is to go as it is."""
        root = unpacked(tmp_path, READY)
        do(request(root))
        edit(root, kubelet.KUBEADM_FLAGS, f"--container-runtime-endpoint={SHIM} ", "")
        flags = f"KUBELET_EXTRA_ARGS=--container-runtime-endpoint={SHIM}\n"
        root.host("/etc/default/kubelet").write_text(flags)
        after = tree(root)
        with pytest.raises(ShimError, match=r"by hand.*--force removes the shim"):
            undo(root)
        assert tree(root) == after
        undo(root, force=True)
        assert not root.exists(SERVICE_FILE)

    def test_a_file_that_is_no_text_any_more(self, tmp_path: Path) -> None:
        """It is named where it cannot be changed, and left out with --force."""
        root = unpacked(tmp_path, READY)
        do(request(root))
        for path in (CRICTL, kubelet.KUBEADM_FLAGS):
            with root.host(path).open("ab") as file:
                file.write(b"# caf\xe9\n")
        after = root.host(CRICTL).read_bytes()
        with pytest.raises(ShimError, match=rf"^{CRICTL}: .*--force leaves it as it is"):
            undo(root)
        notes = undo(root, force=True)
        assert any(note.startswith(f"left as it is: {CRICTL}: not YAML") for note in notes)
        assert root.host(CRICTL).read_bytes() == after
        flags = root.host(kubelet.KUBEADM_FLAGS).read_bytes()
        assert flags == KUBEADM_FLAGS.encode() + b"# caf\xe9\n"

    @pytest.mark.parametrize("text", ["auth: admin: S3cretPass\n", "- a\n", "a: \udce9\n"])
    def test_a_configuration_that_cannot_be_read(self, tmp_path: Path, text: str) -> None:
        """It goes all the same; a kubelet that still has its socket keeps it, and --force is named.

        The socket is systemd's then.
        """
        root = unpacked(tmp_path, {**KUBEADM, CONFIG: f"{FILLED}shim: /run/x.sock\n"})
        do(request(root, wire=False))
        root.host(CONFIG).write_bytes(text.encode(errors="surrogateescape"))
        flags = root.host(kubelet.KUBEADM_FLAGS)
        flags.write_text(KUBEADM_FLAGS.replace(CONTAINERD, "unix:///run/x.sock"))
        with pytest.raises(ShimError, match=r"by hand.*--force"):
            undo(root)
        flags.write_text(KUBEADM_FLAGS)
        undo(root)
        assert not root.exists(SERVICE_FILE)

    def test_a_damaged_original_is_said(self, tmp_path: Path) -> None:
        """Nothing is restored from a backup that is not what was taken."""
        root = unpacked(tmp_path, READY)
        do(request(root))
        for original in root.host("/var/lib/image-cri-shim/originals").iterdir():
            original.write_text("else")
        with pytest.raises(ShimError, match="missing or damaged"):
            undo(root)

    @pytest.mark.parametrize("at", [0, 1, -1])
    def test_a_removal_that_ends_while_it_is_forgotten(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
    ) -> None:
        """The next one leaves nothing behind."""
        root = unpacked(tmp_path, READY)
        before = tree(root)
        do(request(root))
        folder = root.host(ORIGINALS)
        last = sorted(folder.iterdir())[at].name if at >= 0 else RECORD

        def killed(root: Root, path: str, entry: Entry | None) -> None:
            if entry is None and path.endswith(last):
                raise KilledError
            write(root, path, entry)

        with monkeypatch.context() as patch:
            patch.setattr(record, "write", killed)
            with pytest.raises(KilledError):
                undo(root)
        undo(root)
        assert tree(root) == before

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
            '{"version": 1, "was_active": true, "directories": [], "files": [{"path": "/\\u0000", '
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
