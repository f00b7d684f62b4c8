"""--wire-runtime: what a containerd is told of the registries, and taking it back."""

from __future__ import annotations

import json
import os
import time
import tomllib
from pathlib import Path

import pytest

from shimcore.cluster.documents import ClusterPart, Document, Kind, keep
from shimcore.config.model import KubernetesSource
from shimcore.errors import ShimError
from shimcore.runtime.containerd.release import Release
from shimcore.runtime.containerd.route import Verdict, Wanted, judge, route
from shimcore.runtime.containerd.settings import DEFAULT_FILE, read_settings
from shimcore.systemd import record
from shimcore.systemd.changes import diff
from shimcore.systemd.install import install, plan
from shimcore.systemd.overlay import NotOursError
from shimcore.systemd.record import RECORD
from shimcore.systemd.root import Root
from shimcore.systemd.runtimes import rereading
from shimcore.systemd.uninstall import plan_removal, uninstall
from shimcore.systemd.units import BYPASS, SERVICE, SOCKET
from tests.unit.systemd.machines import (
    CONFIG,
    KUBEADM,
    KilledError,
    NotedSystemd,
    request,
    tree,
)
from tests.unit.systemd.wired import HOSTS, HUB, PLAIN, do, mount_read_only, node, undo

V1_PROGRAM = {"/usr/bin/containerd": "io.containerd.grpc.v1.cri"}

V2_WORDS = "io.containerd.cri.v1.images use_local_image_pull"
V2_PROGRAM = {"/usr/bin/containerd": V2_WORDS}
V2_3_PROGRAM = {"/usr/bin/containerd": f"{V2_WORDS} io.containerd.server.v1"}

DEBIAN = """\
version = 2 # Debian's

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
"""

DEFAULT_2 = """\
version = 3

[plugins]
  [plugins.'io.containerd.cri.v1.images']
    snapshotter = 'overlayfs'
    [plugins.'io.containerd.cri.v1.images'.registry]
      config_path = '' # nothing

  [plugins.'io.containerd.transfer.v1.local']
    config_path = ''
"""

PROGRAMS = [
    (V1_PROGRAM, Release.V1),
    (V2_PROGRAM, Release.V2_1),
    (V2_3_PROGRAM, Release.V2_3),
]

# As image-builder writes it.
IMPORTING = 'imports = ["/etc/containerd/conf.d/*.toml"]\n' + DEBIAN
DROP_IN = "/etc/containerd/conf.d/a.toml"

UNIT = "containerd.service"

# As Flatcar has it, below a /usr that is read-only.
FLATCAR_FILE = "/usr/share/containerd/config.toml"
FLATCAR = {
    **V1_PROGRAM,
    f"/usr/lib/systemd/system/{UNIT}": (
        f"[Service]\nEnvironment=CONTAINERD_CONFIG={FLATCAR_FILE}\n"
        "ExecStart=/usr/bin/containerd --config ${CONTAINERD_CONFIG}\n"
    ),
}

CONTAINERD = "/run/containerd/containerd.sock"


def verdict(root: Root, wanted: Wanted, release: Release) -> Verdict:
    settings = read_settings(root, DEFAULT_FILE, release)
    return judge(root, route(root, settings, wanted.host), wanted)


class TestContainerd:
    @pytest.mark.parametrize(
        ("files", "release"),
        [
            ({**V1_PROGRAM, DEFAULT_FILE: DEBIAN}, Release.V1),
            (V1_PROGRAM, Release.V1),
            (V2_PROGRAM, Release.V2_1),
            ({**V2_PROGRAM, DEFAULT_FILE: DEBIAN}, Release.V2_1),
            ({**V2_PROGRAM, DEFAULT_FILE: DEFAULT_2}, Release.V2_1),
            ({DEFAULT_FILE: DEFAULT_2}, Release.V2_1),
            ({**V2_3_PROGRAM, DEFAULT_FILE: DEFAULT_2}, Release.V2_3),
            ({DEFAULT_FILE: DEFAULT_2.replace("version = 3", "version = 4")}, Release.V2_3),
        ],
    )
    def test_there_and_back(self, tmp_path: Path, files: dict[str, str], release: Release) -> None:
        """containerd reaches the hub; twice is once; then every byte is as it was."""
        root = node(tmp_path, files)
        before = tree(root)
        wanted = Wanted("http", HUB)
        assert verdict(root, wanted, release) is Verdict.HTTPS_FOR_HTTP
        control = NotedSystemd({UNIT})
        do(root, control)
        assert f"restart {UNIT}" in control.asked
        assert verdict(root, wanted, release) is Verdict.FITS
        after = tree(root)
        control.asked.clear()
        assert do(root, control) == ["image-cri-shim.service runs"]
        assert f"restart {UNIT}" not in control.asked
        assert tree(root) == after
        undo(root, control)
        assert f"restart {UNIT}" in control.asked
        assert tree(root) == before

    def test_the_runtime_comes_first_on_the_way_back(self, tmp_path: Path) -> None:
        """It answers before kubelet is restarted, once, and the shim ends after that."""
        root = node(tmp_path, {**V1_PROGRAM, DEFAULT_FILE: DEBIAN, **KUBEADM})
        control = NotedSystemd({UNIT, "kubelet.service"})
        planned = plan(request(root, runtime=True))
        planned.runtime = CONTAINERD
        list(install(planned, control, now=True, answers=lambda _: True))
        control.asked.clear()

        def answers(socket: str) -> bool:
            control.asked.append(f"ask {socket}")
            return True

        undo(root, control, answers)
        assert [said for said in control.asked if said != "daemon-reload"] == [
            f"restart {UNIT}",
            f"ask {CONTAINERD}",
            "restart kubelet.service",
            f"stop {SOCKET} {SERVICE} {BYPASS}",
        ]

    def test_a_runtime_that_is_not_back_in_time(self, tmp_path: Path) -> None:
        """It is said, and all the rest is put back."""
        root = node(tmp_path, {**V1_PROGRAM, DEFAULT_FILE: DEBIAN})
        before = tree(root)
        control = NotedSystemd({UNIT})
        do(root, control)
        said = undo(root, control, lambda _: False)
        assert [line for line in said if "did not answer" in line]
        assert tree(root) == before

    def test_a_complete_hosts_file(self, tmp_path: Path) -> None:
        """As docs/hosts.md has it; 1.x refuses one without a table."""
        root = node(tmp_path, {**V1_PROGRAM, DEFAULT_FILE: DEBIAN})
        do(root)
        assert root.text(HOSTS) == (
            "# Written by image-cri-shim install-service.\n"
            f'server = "http://{HUB}"\n\n[host."http://{HUB}"]\n'
            '  capabilities = ["pull", "resolve"]\n'
        )

    def test_the_rest_of_the_configuration_stays(self, tmp_path: Path) -> None:
        """Comments and formatting, and the other config_path."""
        root = node(tmp_path, {**V2_PROGRAM, DEFAULT_FILE: DEFAULT_2})
        do(root)
        new = root.text(DEFAULT_FILE) or ""
        line = 'config_path = "/etc/containerd/certs.d" # image-cri-shim'
        assert new == DEFAULT_2.replace("config_path = '' # nothing", line)

    def test_only_hosts_files_are_read_at_each_pull(self, tmp_path: Path) -> None:
        """With config_path set already containerd is not restarted."""
        config = DEBIAN + (
            '    [plugins."io.containerd.grpc.v1.cri".registry]\n      config_path = "/etc/c"\n'
        )
        root = node(tmp_path, {**V1_PROGRAM, DEFAULT_FILE: config})
        control = NotedSystemd({UNIT})
        do(root, control)
        assert f"restart {UNIT}" not in control.asked
        assert root.exists(f"/etc/c/{HUB}/hosts.toml")
        assert root.text(DEFAULT_FILE) == config

    def test_authorities_and_no_verification(self, tmp_path: Path, ca: str) -> None:
        """`ca` points at the file of the configuration."""
        config = (
            "address: https://hub.example\nhub: {caFile: /etc/hub.pem}\n"
            "registries:\n- {address: 'https://loose.example:8443', insecureSkipVerify: true}\n"
            "- {address: 'https://public.example'}\n- {address: 'http://127.0.0.1:5000'}\n"
        )
        root = node(tmp_path, {**V2_PROGRAM, "/etc/hub.pem": ca}, config)
        do(root)
        certs = root.host("/etc/containerd/certs.d")
        assert {each.name for each in certs.iterdir()} == {"hub.example", "loose.example:8443"}
        hub = tomllib.loads((certs / "hub.example/hosts.toml").read_text())
        assert hub["host"]["https://hub.example"]["ca"] == "/etc/hub.pem"
        wanted = Wanted("https", "loose.example:8443", skip_verify=True)
        assert verdict(root, wanted, Release.V2_1) is Verdict.FITS
        assert verdict(root, Wanted("https", "hub.example", ca), Release.V2_1) is Verdict.FITS

    def test_what_fits_already_stays(self, tmp_path: Path) -> None:
        """A sealos node's own hosts.toml."""
        text = (
            f'server = "http://{HUB}"\n[host."http://{HUB}"]\n'
            '  capabilities = ["pull", "resolve", "push"]\n  skip_verify = true\n'
        )
        registry = (
            '[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path="/etc/containerd/certs.d"'
        )
        root = node(tmp_path, {**V1_PROGRAM, DEFAULT_FILE: DEBIAN + registry, HOSTS: text})
        planned = plan(request(root, wire=False, runtime=True))
        assert planned.for_runtime == []

    def test_somebody_elses_hosts_file_is_added_to(self, tmp_path: Path) -> None:
        """The old mend, a server alone, gets its table; taken back it is as it was."""
        root = node(tmp_path, {**V1_PROGRAM, HOSTS: f'server = "http://{HUB}" # mine'})
        before = tree(root)
        do(root)
        assert (root.text(HOSTS) or "").startswith(f'server = "http://{HUB}" # mine\n\n[host.')
        assert verdict(root, Wanted("http", HUB), Release.V1) is Verdict.FITS
        place = root.host(HOSTS)
        place.write_text("# more\n" + place.read_text())
        undo(root)
        assert root.text(HOSTS) == f'# more\nserver = "http://{HUB}" # mine'
        place.write_text(f'server = "http://{HUB}" # mine')
        assert tree(root) == before

    def test_somebody_elses_hosts_file_that_cannot_be_added_to(
        self, tmp_path: Path, ca: str
    ) -> None:
        """Refused with the text, and nothing is changed."""
        theirs = '[host."https://hub.example"]\n  capabilities = ["pull", "resolve"]\n'
        config = "address: https://hub.example\nhub: {caFile: /etc/hub.pem}\n"
        path = "/etc/containerd/certs.d/hub.example/hosts.toml"
        root = node(tmp_path, {**V1_PROGRAM, "/etc/hub.pem": ca, path: theirs}, config)
        before = tree(root)
        with pytest.raises(NotOursError, match="somebody else's") as refused:
            do(root)
        assert '  ca = "/etc/hub.pem"\n' in refused.value.addition
        assert tree(root) == before

    def test_certificates_beside_it_count_on(self, tmp_path: Path) -> None:
        """A hosts.toml hides docker's layout, so that its authorities are named."""
        config = "address: https://hub.example\nhub: {insecureSkipVerify: true}\n"
        beside = "/etc/containerd/certs.d/hub.example/a.crt"
        registry = (
            '[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path="/etc/containerd/certs.d"'
        )
        root = node(tmp_path, {**V1_PROGRAM, DEFAULT_FILE: DEBIAN + registry, beside: "x"}, config)
        do(root)
        text = root.text("/etc/containerd/certs.d/hub.example/hosts.toml") or ""
        assert f'ca = ["{beside}"]' in text

    def test_inline_registries_are_extended(self, tmp_path: Path, ca: str) -> None:
        """config_path beside mirrors would end the CRI plugin."""
        table = 'plugins."io.containerd.grpc.v1.cri".registry'
        inline = DEBIAN + f'[{table}.mirrors."docker.io"]\nendpoint = ["http://m:5000"]\n'
        config = f"{PLAIN}registries:\n- {{address: 'https://s.example', caFile: /etc/s.pem}}\n"
        root = node(tmp_path, {**V1_PROGRAM, DEFAULT_FILE: inline, "/etc/s.pem": ca}, config)
        before = tree(root)
        do(root)
        text = root.text(DEFAULT_FILE) or ""
        registry = tomllib.loads(text)["plugins"]["io.containerd.grpc.v1.cri"]["registry"]
        assert registry["mirrors"][HUB] == {"endpoint": [f"http://{HUB}"]}
        assert registry["configs"]["s.example"]["tls"] == {"ca_file": "/etc/s.pem"}
        assert "config_path" not in registry
        assert not root.exists("/etc/containerd/certs.d")
        after = tree(root)
        do(root)
        assert tree(root) == after
        undo(root)
        assert tree(root) == before

    @pytest.mark.parametrize("words", ["io.containerd.cri.v1.images", V2_WORDS])
    def test_an_authority_beside_inline_registries(
        self, tmp_path: Path, ca: str, words: str
    ) -> None:
        """2.x does not know `configs.*.tls`: refused with the table of a hosts.toml."""
        table = 'plugins."io.containerd.grpc.v1.cri".registry'
        inline = DEBIAN + f'[{table}.mirrors."docker.io"]\nendpoint = ["http://m:5000"]\n'
        config = "address: https://hub.example\nhub: {caFile: /etc/hub.pem}\n"
        files = {"/usr/bin/containerd": words, DEFAULT_FILE: inline, "/etc/hub.pem": ca}
        with pytest.raises(NotOursError, match=r"hosts\.toml files, which 2\.x needs") as refused:
            do(node(tmp_path, files, config))
        host = tomllib.loads(refused.value.addition)["host"]
        assert host["https://hub.example"]["ca"] == "/etc/hub.pem"

    def test_an_inline_registry_that_is_there(self, tmp_path: Path) -> None:
        """Refused with the text."""
        table = 'plugins."io.containerd.grpc.v1.cri".registry'
        inline = DEBIAN + f'[{table}.mirrors."{HUB}"]\nendpoint = ["https://{HUB}"]\n'
        root = node(tmp_path, {**V1_PROGRAM, DEFAULT_FILE: inline})
        with pytest.raises(NotOursError) as refused:
            do(root)
        assert f'endpoint = ["http://{HUB}"]' in refused.value.addition

    def test_both_at_once(self, tmp_path: Path) -> None:
        """containerd does not start its CRI plugin with it; said as it is."""
        table = 'plugins."io.containerd.grpc.v1.cri".registry'
        both = DEBIAN + (
            f'[{table}]\nconfig_path = "/x"\n[{table}.mirrors."a.b"]\nendpoint = ["http://a.b"]\n'
        )
        root = node(tmp_path, {**V1_PROGRAM, DEFAULT_FILE: both})
        with pytest.raises(ShimError, match="both config_path and mirrors"):
            do(root)

    def test_the_imported_file_that_is_in_force(self, tmp_path: Path) -> None:
        """1.x takes the plugin's whole section from the last file that has one."""
        more = 'version = 2\n[plugins."io.containerd.grpc.v1.cri"]\n  sandbox_image = "p"\n'
        files = {
            **V1_PROGRAM,
            DEFAULT_FILE: IMPORTING,
            DROP_IN: more,
        }
        root = node(tmp_path, files)
        do(root)
        assert root.text(DEFAULT_FILE) == files[DEFAULT_FILE]
        assert "config_path" in (root.text(DROP_IN) or "")

    @pytest.mark.parametrize(("program", "release"), PROGRAMS)
    def test_mirrors_of_an_imported_file_without_version(
        self, tmp_path: Path, program: dict[str, str], release: Release
    ) -> None:
        """They are read by the version of the whole, and extended: config_path stays out."""
        table = 'plugins."io.containerd.grpc.v1.cri".registry.mirrors'
        mirrors = f'[{table}."docker.io"]\n  endpoint = ["https://mirror.example.com"]\n'
        root = node(tmp_path, {**program, DEFAULT_FILE: IMPORTING, DROP_IN: mirrors})
        before = tree(root)
        do(root)
        assert root.text(DEFAULT_FILE) == IMPORTING
        assert f'[{table}."{HUB}"] # image-cri-shim\n' in (root.text(DROP_IN) or "")
        assert verdict(root, Wanted("http", HUB), release) is Verdict.FITS
        undo(root)
        assert tree(root) == before

    @pytest.mark.parametrize(("program", "release"), PROGRAMS)
    def test_a_runtime_of_an_imported_file_without_version(
        self, tmp_path: Path, program: dict[str, str], release: Release
    ) -> None:
        """As the GPU operator's: in 1.x its section is the whole, and has config_path then."""
        nvidia = (
            '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]\n'
            '  runtime_type = "io.containerd.runc.v2"\n'
        )
        files = {DEFAULT_FILE: IMPORTING, DROP_IN: nvidia}
        root = node(tmp_path, {**program, **files})
        do(root)
        changed = [path for path, text in files.items() if root.text(path) != text]
        assert changed == [DROP_IN if release is Release.V1 else DEFAULT_FILE]
        registry = '[plugins."io.containerd.grpc.v1.cri".registry]\n  config_path = '
        assert registry in (root.text(changed[0]) or "")
        assert verdict(root, Wanted("http", HUB), release) is Verdict.FITS

    def test_the_file_of_the_unit(self, tmp_path: Path) -> None:
        """`--config` of the service."""
        unit = "[Service]\nExecStart=/opt/containerd -c /opt/c.toml --log-level debug\n"
        files = {f"/etc/systemd/system/{UNIT}": unit, "/opt/containerd": "io.containerd.grpc"}
        root = node(tmp_path, files)
        do(root)
        assert "config_path" in (root.text("/opt/c.toml") or "")
        assert not root.exists(DEFAULT_FILE)

    def test_a_unit_whose_variables_cannot_be_read(self, tmp_path: Path) -> None:
        """The file may be named there: no other is changed in its place."""
        unit = "[Service]\nEnvironmentFile=/etc/proxy.env\nExecStart=/opt/containerd -c /opt/c.toml"
        root = node(tmp_path, {**V1_PROGRAM, f"/etc/systemd/system/{UNIT}": unit})
        root.host("/etc/proxy.env").mkdir()
        before = tree(root)
        with pytest.raises(ShimError, match=r"^/etc/proxy\.env: Is a directory$"):
            do(root)
        assert tree(root) == before

    def test_a_runtime_that_does_not_come_back(self, tmp_path: Path) -> None:
        """Its files are as they were, it is started again, and the service is not started."""
        root = node(tmp_path, {**V1_PROGRAM, DEFAULT_FILE: DEBIAN})
        control = NotedSystemd({UNIT})
        with pytest.raises(ShimError, match="did not answer over CRI within 60 s"):
            do(root, control, answers=False)
        assert root.text(DEFAULT_FILE) == DEBIAN
        assert not root.exists(HOSTS)
        assert control.asked.count(f"restart {UNIT}") == 2
        assert not any("start image-cri-shim" in each for each in control.asked)

    def test_a_restart_that_fails(self, tmp_path: Path) -> None:
        """As one after which nobody answers."""
        root = node(tmp_path, {**V1_PROGRAM, DEFAULT_FILE: DEBIAN})
        control = NotedSystemd({UNIT}, fails=f"restart {UNIT}")
        with pytest.raises(ShimError):
            do(root, control)
        assert root.text(DEFAULT_FILE) == DEBIAN

    def test_without_now(self, tmp_path: Path) -> None:
        """The files are written, and it is said what is left to do."""
        root = node(tmp_path, {**V1_PROGRAM, DEFAULT_FILE: DEBIAN})
        control = NotedSystemd({UNIT})
        lines = list(install(plan(request(root, wire=False, runtime=True)), control, now=False))
        assert any(f"after: systemctl restart {UNIT}" in line for line in lines)
        assert f"restart {UNIT}" not in control.asked

    def test_now_after_without_now(self, tmp_path: Path) -> None:
        """What the first run left to do is done by the second, once, before the shim starts."""
        root = node(tmp_path, {**V1_PROGRAM, DEFAULT_FILE: DEBIAN})
        control = NotedSystemd({UNIT})
        list(install(plan(request(root, wire=False, runtime=True)), control, now=False))
        planned = plan(request(root, wire=False))
        assert planned
        assert any(
            f"after: systemctl restart {UNIT}" in line
            for line in install(planned, control, now=False)
        )
        control.asked.clear()
        do(root, control)
        assert control.asked[0] == f"restart {UNIT}"
        assert not plan(request(root, wire=False, runtime=True))

    def test_a_run_that_is_broken_off_before_the_restart(self, tmp_path: Path) -> None:
        """The next one restarts it, in either direction."""
        root = node(tmp_path, {**V1_PROGRAM, DEFAULT_FILE: DEBIAN})
        before = tree(root)
        with pytest.raises(KilledError):
            do(root, NotedSystemd({UNIT}, killed=f"restart {UNIT}"))
        control = NotedSystemd({UNIT})
        do(root, control)
        assert control.asked.count(f"restart {UNIT}") == 1
        with pytest.raises(KilledError):
            undo(root, NotedSystemd({UNIT}, killed=f"restart {UNIT}"))
        control.asked.clear()
        undo(root, control)
        assert control.asked.count(f"restart {UNIT}") == 1
        assert tree(root) == before

    def test_what_it_reads_later_is_taken_back_as_well(self, tmp_path: Path) -> None:
        """A runtime that does not come up with what an earlier run wrote."""
        root = node(tmp_path, {**V1_PROGRAM, DEFAULT_FILE: DEBIAN})
        control = NotedSystemd({UNIT})
        list(install(plan(request(root, wire=False, runtime=True)), control, now=False))
        with pytest.raises(ShimError, match=f"{DEFAULT_FILE} is as it was"):
            do(root, control, answers=False)
        assert root.text(DEFAULT_FILE) == DEBIAN

    @pytest.mark.parametrize("last", ['  sandbox_image = "x"', "  sandbox_image = 'x' # no end"])
    @pytest.mark.parametrize("inline", [False, True])
    def test_what_follows_a_last_line_without_an_end(
        self, tmp_path: Path, last: str, inline: bool
    ) -> None:
        """It has a line of its own when our part, which was between, is taken back."""
        mirror = '.registry.mirrors."a:1"]\n  endpoint = ["https://m"]' if inline else f"]\n{last}"
        text = f'version = 2\n[plugins."io.containerd.grpc.v1.cri"{mirror}'
        root = node(tmp_path, {**V1_PROGRAM, DEFAULT_FILE: text})
        do(root)
        metrics = '[metrics]\n  address = "127.0.0.1:1338"\n'
        with root.host(DEFAULT_FILE).open("a") as file:
            file.write(metrics)
        undo(root)
        assert root.text(DEFAULT_FILE) == f"{text}\n{metrics}"

    def test_a_file_that_a_program_has_written_anew(self, tmp_path: Path) -> None:
        """As nvidia-ctk does: it is said what may still be there of ours, and nothing else."""
        root = node(tmp_path, {**V2_PROGRAM, DEFAULT_FILE: DEFAULT_2})
        do(root)
        place = root.host(DEFAULT_FILE)
        text = place.read_text().replace("# image-cri-shim", "").replace('"/etc', "'/etc")
        place.write_text(text.replace('d"', "d'"))
        after = place.read_text()
        removal = plan_removal(root, CONFIG)
        line = 'config_path = "/etc/containerd/certs.d" # image-cri-shim'
        assert removal.notes == [
            f"{DEFAULT_FILE} was written anew since; remove what it still has of ours: {line}"
        ]
        list(uninstall(removal, None))
        assert place.read_text() == after

    def test_a_record_of_an_earlier_version(self, tmp_path: Path) -> None:
        """It does not say what is still to be read: in an image nothing is."""
        root = node(tmp_path, {**V1_PROGRAM, DEFAULT_FILE: DEBIAN})
        before = tree(root)
        do(root, NotedSystemd({UNIT}))
        content = json.loads(root.text(RECORD) or "")
        del content["unread"]
        root.host(RECORD).write_text(json.dumps(content))
        assert not plan(request(root, wire=False, runtime=True))
        undo(root)
        assert tree(root) == before

    @pytest.mark.parametrize(
        ("number", "age_s", "unread"),
        [(7, 900, True), (7, 10, False), (8, 0, True), (9, 0, False), (0, 0, False)],
    )
    def test_what_the_runtime_had_not_read_of_an_earlier_version(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        number: int,
        age_s: int,
        unread: bool,
    ) -> None:
        """It is what is younger than its process, which reads it before kubelet is wired."""
        root = node(tmp_path / "root", {**V1_PROGRAM, DEFAULT_FILE: DEBIAN})
        do(root, NotedSystemd({UNIT}))
        changed = time.time() - 60
        os.utime(root.host(DEFAULT_FILE), (changed, changed))
        for name, ticks in (("7", int((1000 - age_s) * os.sysconf("SC_CLK_TCK"))), ("8", "?")):
            (tmp_path / name).mkdir()
            (tmp_path / name / "stat").write_text(f"7 (containerd) S {'0 ' * 18}{ticks} 0\n")
        (tmp_path / "uptime").write_text("1000.00 1.00\n")
        known = record.load(root)
        assert known is not None
        backs = [each.back for each in known.files.values()]
        assert rereading.unread_by_age(root, backs, tmp_path) == []
        monkeypatch.setattr(Root, "is_machine", True)
        monkeypatch.setattr(rereading, "main_process", lambda unit: number if unit == UNIT else 0)
        found = rereading.unread_by_age(root, backs, tmp_path)
        assert found == ([f"restart {UNIT}"] if unread else [])

    def test_it_is_read_when_a_record_of_an_earlier_version_is_met(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """By the next run with --now, and once."""
        root = node(tmp_path, {**V1_PROGRAM, DEFAULT_FILE: DEBIAN})
        list(install(plan(request(root, wire=False, runtime=True)), None, now=False))
        content = json.loads(root.text(RECORD) or "")
        del content["unread"]
        root.host(RECORD).write_text(json.dumps(content))
        monkeypatch.setattr(record, "unread_by_age", lambda *_: [f"restart {UNIT}"])
        control = NotedSystemd({UNIT})
        for _ in range(2):
            do(root, control)
        assert control.asked.count(f"restart {UNIT}") == 1

    def test_a_dry_run_shows_it(self, tmp_path: Path) -> None:
        """As a diff."""
        root = node(tmp_path, {**V1_PROGRAM, DEFAULT_FILE: DEBIAN})
        changes = plan(request(root, wire=False, runtime=True)).for_runtime
        lines = [line for change in changes for line in diff(root, change)]
        assert '+  config_path = "/etc/containerd/certs.d" # image-cri-shim' in lines
        assert f'+[host."http://{HUB}"]' in lines

    def test_no_containerd(self, tmp_path: Path) -> None:
        """Nothing to look at: said."""
        with pytest.raises(ShimError, match="no containerd found"):
            do(node(tmp_path, {}))

    def test_nothing_to_tell(self, tmp_path: Path) -> None:
        """A hub of https with a public certificate needs nothing."""
        root = node(tmp_path, {}, "address: https://hub.example\n")
        assert plan(request(root, wire=False, runtime=True)).for_runtime == []

    def test_registries_of_the_cluster(self, tmp_path: Path) -> None:
        """Said while the node does not know them; told once the shim has kept its copy."""
        config = f"{PLAIN}kubernetes: {{enabled: true, kubeconfig: /k}}\n"
        root = node(tmp_path, {**V1_PROGRAM, DEFAULT_FILE: DEBIAN}, config)
        (note,) = plan(request(root, wire=False, runtime=True)).notes
        assert "not known on this node yet" in note
        text = "registries: [{address: 'http://b.example'}]\n"
        source = KubernetesSource(enabled=True, kubeconfig="/k")
        part = ClusterPart(source, {Kind.CONFIG_MAP: Document(text, "1")})
        keep(str(root.host("/var/lib/image-cri-shim")), part)
        assert plan(request(root, wire=False, runtime=True)).notes == []
        do(root)
        assert verdict(root, Wanted("http", "b.example"), Release.V1) is Verdict.FITS

    @pytest.mark.parametrize("force", [False, True])
    def test_somebodys_change_of_a_file_of_ours(self, tmp_path: Path, force: bool) -> None:
        """It is theirs since, and added to; with --force it is written anew."""
        root = node(tmp_path, {**V1_PROGRAM, DEFAULT_FILE: DEBIAN})
        do(root)
        ours = root.text(HOSTS)
        astray = f'[host."https://{HUB}"]\n  capabilities = ["pull", "resolve"]\n'
        root.host(HOSTS).write_text(astray)
        assert verdict(root, Wanted("http", HUB), Release.V1) is not Verdict.FITS
        list(install(plan(request(root, wire=False, runtime=True, force=force)), None, now=True))
        assert verdict(root, Wanted("http", HUB), Release.V1) is Verdict.FITS
        text = root.text(HOSTS) or ""
        assert text == ours if force else text.startswith(astray)

    def test_a_new_registry_later(self, tmp_path: Path) -> None:
        """Told when the command runs again; the way back leads before the first."""
        root = node(tmp_path, {**V1_PROGRAM, DEFAULT_FILE: DEBIAN})
        before = tree(root)
        do(root)
        root.host(CONFIG).write_text(f"{PLAIN}registries: [{{address: 'http://b.example'}}]\n")
        control = NotedSystemd({UNIT})
        do(root, control)
        assert f"restart {UNIT}" not in control.asked
        assert root.exists("/etc/containerd/certs.d/b.example/hosts.toml")
        root.host(CONFIG).write_text(PLAIN)
        undo(root)
        assert tree(root) == before


class TestReadOnly:
    """A file system that takes no writes."""

    @pytest.mark.parametrize("inline", ["", 'mirrors."a.b".endpoint = ["http://a.b"]\n'])
    def test_the_configuration(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inline: str
    ) -> None:
        """Refused before anything is written, with the text and the way around."""
        registry = '[plugins."io.containerd.grpc.v1.cri".registry'
        root = node(tmp_path, {**FLATCAR, FLATCAR_FILE: f"{DEBIAN}{registry}]\n{inline}"})
        mount_read_only(monkeypatch, root, "/usr")
        before = tree(root)
        with pytest.raises(NotOursError, match="is read-only") as refused:
            do(root)
        assert tree(root) == before
        for word in (FLATCAR_FILE, DEFAULT_FILE, UNIT):
            assert word in refused.value.reason
        assert refused.value.addition.startswith(registry)

    @pytest.mark.parametrize(
        "drop_in",
        [
            "ExecStart=\nExecStart=/usr/bin/containerd\n",
            f"Environment=CONTAINERD_CONFIG={DEFAULT_FILE}\n",
        ],
    )
    def test_a_copy_of_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drop_in: str
    ) -> None:
        """Found by the drop-in that starts containerd with it (flatcar.org, Customizing Docker)."""
        name = f"/etc/systemd/system/{UNIT}.d/10-use-custom-config.conf"
        copied = {DEFAULT_FILE: DEBIAN, name: f"[Service]\n{drop_in}"}
        root = node(tmp_path, {**FLATCAR, FLATCAR_FILE: DEBIAN, **copied})
        mount_read_only(monkeypatch, root, "/usr/share")
        before = tree(root)
        do(root)
        assert verdict(root, Wanted("http", HUB), Release.V1) is Verdict.FITS
        undo(root)
        assert tree(root) == before

    def test_a_whole_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """All of it is shown; one that is there already does not matter."""
        registry = '[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "/usr/certs"\n'
        root = node(tmp_path, {**V1_PROGRAM, DEFAULT_FILE: DEBIAN + registry})
        mount_read_only(monkeypatch, root, "/usr")
        with pytest.raises(NotOursError, match=f"/usr/certs/{HUB}/hosts.toml: .* read-only") as it:
            do(root)
        hosts = root.host(f"/usr/certs/{HUB}/hosts.toml")
        hosts.parent.mkdir(parents=True)
        hosts.write_text(it.value.addition)
        assert plan(request(root, wire=False, runtime=True)).for_runtime == []
