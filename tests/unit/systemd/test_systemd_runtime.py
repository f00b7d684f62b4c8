"""--wire-runtime: CRI-O, dockerd, and the containerd of a distribution."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from shimcore.systemd.install import install, plan
from shimcore.systemd.overlay import NotOursError
from shimcore.systemd.record import RECORD
from shimcore.systemd.root import Root
from shimcore.systemd.uninstall import plan_removal, uninstall
from tests.unit.systemd.machines import CONFIG, KilledError, NotedSystemd, request, tree
from tests.unit.systemd.wired import HOSTS, HUB, PLAIN, do, node, undo

CRIO = {"/etc/crio/crio.conf": ""}


def _as_1_0_0_recorded(root: Root, path: str) -> None:
    """As a whole file."""
    known = json.loads(root.text(RECORD) or "")
    (file,) = (each for each in known["files"] if each["path"] == path)
    assert file["before"] is None
    file["edit"] = None
    root.host(RECORD).write_text(json.dumps(known))


@pytest.mark.parametrize(
    ("files", "config", "unit"),
    [
        (CRIO, PLAIN, "crio.service"),
        ({}, f"cri: /run/cri-dockerd.sock\n{PLAIN}", "docker.service"),
    ],
)
def test_what_was_written_without_now_is_read_later(
    tmp_path: Path, files: dict[str, str], config: str, unit: str
) -> None:
    """A run with --now, or one after a run that was broken off, has the runtime reload."""
    root = node(tmp_path, files, config)
    control = NotedSystemd({unit})
    list(install(plan(request(root, wire=False, runtime=True)), control, now=False))
    assert f"reload {unit}" not in control.asked
    with pytest.raises(KilledError):
        do(root, NotedSystemd({unit}, killed=f"reload {unit}"))
    do(root, control)
    assert control.asked.count(f"reload {unit}") == 1
    do(root, control)
    with pytest.raises(KilledError):
        undo(root, NotedSystemd({unit}, killed=f"reload {unit}"))
    undo(root, control)
    assert control.asked.count(f"reload {unit}") == 2


class TestCrio:
    OURS = "/etc/containers/registries.conf.d/50-image-cri-shim.conf"

    def test_there_and_back(self, tmp_path: Path, ca: str) -> None:
        """Insecure ones in a file of ours, authorities in certs.d; it reloads."""
        config = f"{PLAIN}registries:\n- {{address: 'https://s.example', caFile: /etc/s.pem}}\n"
        root = node(tmp_path, {**CRIO, "/etc/s.pem": ca}, config)
        before = tree(root)
        control = NotedSystemd({"crio.service"})
        do(root, control)
        assert tomllib.loads(root.text(self.OURS) or "") == {
            "registry": [{"location": HUB, "insecure": True}]
        }
        assert root.text("/etc/containers/certs.d/s.example/image-cri-shim.crt") == ca
        assert "reload crio.service" in control.asked
        after = tree(root)
        do(root, control)
        assert tree(root) == after
        undo(root, control)
        assert tree(root) == before

    @pytest.mark.parametrize(
        "text",
        [
            f'[[registry]]\nlocation = "{HUB}"\ninsecure = true\n',
            f'[[registry]]\nprefix = "{HUB}"\nlocation = "b:1"\ninsecure = true\n',
            f'[[registry]]\nlocation = "{HUB}"\ninsecure = true\n'
            f'[[registry]]\nlocation = "{HUB}/x"\nblocked = true\n',
            f'[registries.insecure]\nregistries = ["{HUB}"]\n',
        ],
    )
    def test_what_is_there_already(self, tmp_path: Path, text: str) -> None:
        """In either version of the format."""
        root = node(tmp_path, {**CRIO, "/etc/containers/registries.conf": text})
        assert plan(request(root, wire=False, runtime=True)).for_runtime == []

    @pytest.mark.parametrize(
        "text",
        [
            f'[[registry]]\nprefix = "{HUB}"\n',
            f'[[registry]]\nlocation = "{HUB}/library"\n',
            "[registries.search]\nregistries = []\n",
        ],
    )
    def test_somebody_elses_entry(self, tmp_path: Path, text: str) -> None:
        """A second one would take the place of the first: refused with the text."""
        root = node(tmp_path, {**CRIO, "/etc/containers/registries.conf": text})
        with pytest.raises(NotOursError) as refused:
            do(root)
        assert "insecure" in refused.value.addition

    @pytest.mark.parametrize(
        ("listed", "is_told"),
        [
            ([f'["{HUB}"]'], True),
            ([f'["{HUB}"]', '["a:1"]'], False),
            (['["a:1"]', f'["{HUB}"]'], True),
            (['["10.0.0.0/8"]'], False),
        ],
    )
    def test_the_list_of_its_own_configuration(
        self, tmp_path: Path, listed: list[str], is_told: bool
    ) -> None:
        """In the last file that has one; it wins over registries.conf."""
        places = ("/etc/crio/crio.conf", "/etc/crio/crio.conf.d/10-a", "/etc/crio/crio.conf.d/20-b")
        texts = [*(f"[crio.image]\ninsecure_registries = {each}\n" for each in listed), ""]
        root = node(tmp_path, dict(zip(places, texts, strict=False)))
        changes = plan(request(root, wire=False, runtime=True)).for_runtime
        assert bool(changes) is not is_told

    def test_a_network_of_its_own_configuration(self, tmp_path: Path) -> None:
        """An address lies in it; the entry of registries.conf is not looked at then."""
        config = "address: http://10.1.2.3:5000\n"
        files = {
            "/etc/crio/crio.conf": '[crio.image]\ninsecure_registries = ["10.0.0.0/8"]\n',
            "/etc/containers/registries.conf": '[[registry]]\nlocation = "10.1.2.3:5000"\n',
        }
        root = node(tmp_path, files, config)
        assert plan(request(root, wire=False, runtime=True)).for_runtime == []

    @pytest.mark.parametrize(
        ("folders", "written"),
        [
            (["/etc/containers", "/etc/docker"], "/etc/containers"),
            (["/etc/docker"], "/etc/docker"),
            (["/root/.config/containers", "/etc/containers"], "/root/.config/containers"),
        ],
    )
    def test_the_folder_that_counts(
        self, tmp_path: Path, ca: str, folders: list[str], written: str
    ) -> None:
        """The first that is there, as it is: a client's certificate goes on to count."""
        config = "address: https://s.example\nhub: {caFile: /etc/s.pem}\n"
        there = {f"{folder}/certs.d/s.example/client.cert": "x" for folder in folders}
        last = {f"{folders[-1]}/certs.d/s.example/ca.crt": ca}
        root = node(tmp_path, {**CRIO, "/etc/s.pem": ca, **there, **last}, config)
        changes = plan(request(root, wire=False, runtime=True)).for_runtime
        path = f"{written}/certs.d/s.example/image-cri-shim.crt"
        assert [change.path for change in changes] == ([path] if len(folders) > 1 else [])
        root.host(next(iter(last))).unlink()
        do(root)
        assert root.text(path) == ca

    def test_a_file_of_ours_without_a_record(self, tmp_path: Path) -> None:
        """Its hosts stay in it when another one comes; else it is right as it is."""
        config = f"{PLAIN}registries:\n- address: http://second:5000\n"
        ours = f'[[registry]]\nlocation = "{HUB}"\ninsecure = true\n'
        root = node(tmp_path, {**CRIO, self.OURS: ours}, PLAIN)
        assert plan(request(root, wire=False, runtime=True)).for_runtime == []
        root.host(CONFIG).write_text(config)
        do(root)
        written = tomllib.loads(root.text(self.OURS) or "")["registry"]
        assert [each["location"] for each in written] == [HUB, "second:5000"]
        undo(root)
        assert root.text(self.OURS) == ours

    def test_an_entry_that_blocks_it(self, tmp_path: Path) -> None:
        """Insecure or not, CRI-O does not go there."""
        text = f'[[registry]]\nprefix = "{HUB}"\nblocked = true\ninsecure = true\n'
        root = node(tmp_path, {**CRIO, "/etc/containers/registries.conf": text})
        with pytest.raises(NotOursError, match=f"blocks {HUB}") as refused:
            do(root)
        assert refused.value.addition == "blocked = false\n"

    def test_an_entry_of_another_registry_that_leads_to_it(self, tmp_path: Path) -> None:
        """Its prefix counts alone: a name of the hub itself is not found by that."""
        text = f'[[registry]]\nprefix = "docker.io"\nlocation = "{HUB}"\ninsecure = true\n'
        root = node(tmp_path, {**CRIO, "/etc/containers/registries.conf": text})
        do(root)
        assert root.exists(self.OURS)

    def test_a_later_file_takes_the_place(self, tmp_path: Path) -> None:
        """Of an entry with the same prefix."""
        text = f'[[registry]]\nprefix = "{HUB}"\n'
        later = "/etc/containers/registries.conf.d/a.conf"
        files = {"/etc/containers/registries.conf": text, later: f"{text}insecure = true\n"}
        root = node(tmp_path, {**CRIO, **files})
        assert plan(request(root, wire=False, runtime=True)).for_runtime == []


class TestDocker:
    CONFIG = f"cri: /run/cri-dockerd.sock\n{PLAIN}"
    DAEMON = "/etc/docker/daemon.json"

    @pytest.mark.parametrize(
        "text",
        [
            None,
            "{}\n",
            '{"log-driver": "journald",\n "data-root": "/d"}',
            '{\n  "insecure-registries": ["a:1"],\n  "x": 1\n}\n',
            '{"insecure-registries" : []}',
            '{"insecure-registries": null, "x": 1}',
            "",
            "\n",
            '\ufeff{"log-driver": "journald"}\n',
        ],
    )
    def test_there_and_back(self, tmp_path: Path, text: str | None) -> None:
        """Listed as insecure; docker reloads and is never restarted."""
        files = {} if text is None else {self.DAEMON: text}
        root = node(tmp_path, files, self.CONFIG)
        before = tree(root)
        control = NotedSystemd({"docker.service"})
        do(root, control)
        read = (root.text(self.DAEMON) or "").removeprefix("\ufeff")
        now: dict[str, Any] = json.loads(read)
        old: dict[str, Any] = json.loads((text or "").strip().removeprefix("\ufeff") or "{}")
        listed = [HUB, *(old.get("insecure-registries") or [])]
        assert now == {**old, "insecure-registries": listed}
        assert "reload docker.service" in control.asked
        assert "restart docker.service" not in control.asked
        after = tree(root)
        do(root, control)
        assert tree(root) == after
        undo(root, control)
        assert tree(root) == before

    @pytest.mark.parametrize("force", [False, True])
    @pytest.mark.parametrize("old", [False, True])
    def test_a_file_of_ours_that_others_have_written_to(
        self, tmp_path: Path, old: bool, force: bool
    ) -> None:
        """It keeps their keys through another registry and the removal, also one of 1.0.0."""
        root = node(tmp_path, {}, self.CONFIG)
        do(root)
        if old:
            _as_1_0_0_recorded(root, self.DAEMON)
        place = root.host(self.DAEMON)
        text = place.read_text()
        assert text == json.dumps({"insecure-registries": [HUB]}, indent=2) + "\n"
        theirs = {"log-driver": "journald", "live-restore": True}
        place.write_text(json.dumps({**json.loads(text), **theirs}, indent=2))
        root.host(CONFIG).write_text(f"{self.CONFIG}registries:\n- address: http://second:5000\n")
        do(root)
        listed = {"insecure-registries": ["second:5000", HUB]}
        assert json.loads(place.read_text()) == {**theirs, **listed}
        list(uninstall(plan_removal(root, CONFIG, force=force), None))
        assert json.loads(place.read_text()) == theirs

    @pytest.mark.parametrize(
        ("text", "left"),
        [
            ('{"insecure-registries": ["a:1", "sealos.hub:5000", "b:1"]}', ["a:1", "b:1"]),
            ('{"insecure-registries": ["sealos.hub:5000"], "x": 1}', None),
            ('{"x": 1}', None),
        ],
    )
    @pytest.mark.parametrize("force", [False, True])
    def test_what_others_wrote_to_a_file_of_1_0_0(
        self, tmp_path: Path, text: str, left: list[str] | None, force: bool
    ) -> None:
        """It stays, hosts as well."""
        root = node(tmp_path, {}, self.CONFIG)
        do(root)
        _as_1_0_0_recorded(root, self.DAEMON)
        root.host(self.DAEMON).write_text(text)
        list(uninstall(plan_removal(root, CONFIG, force=force), None))
        now = json.loads(root.text(self.DAEMON) or "")
        assert now.get("insecure-registries") == left
        assert ("x" in now) == ("x" in text)

    @pytest.mark.parametrize("changed", [False, True])
    def test_a_file_of_1_0_0_that_is_ours_alone(self, tmp_path: Path, changed: bool) -> None:
        """It goes, in whichever way it is written by then."""
        root = node(tmp_path, {}, self.CONFIG)
        before = tree(root)
        do(root)
        _as_1_0_0_recorded(root, self.DAEMON)
        if changed:
            root.host(self.DAEMON).write_text('{"insecure-registries":["sealos.hub:5000"]}')
        undo(root)
        assert tree(root) == before

    def test_keys_that_others_wrote_later(self, tmp_path: Path) -> None:
        """The hosts alone are taken back; a file that has nothing else goes."""
        root = node(tmp_path, {}, self.CONFIG)
        before = tree(root)
        do(root)
        place = root.host(self.DAEMON)
        text = place.read_text()
        place.write_text(text.replace("{\n", '{\n  "debug": true,\n'))
        undo(root)
        assert json.loads(place.read_text()) == {"debug": True}
        place.unlink()
        do(root)
        place.write_text(f"{text}\n")
        undo(root)
        assert {path for path in tree(root) if path != "/etc/docker"} == set(before)

    @pytest.mark.parametrize(
        ("text", "listed"),
        [
            ('{"log-driver": "journald"}\n', {}),
            ('{"insecure-registries": ["a:1"]}\n', {"insecure-registries": ["a:1"]}),
        ],
    )
    @pytest.mark.parametrize("again", [False, True])
    def test_a_file_that_a_program_has_written_anew(
        self, tmp_path: Path, text: str, listed: dict[str, list[str]], again: bool
    ) -> None:
        """As nvidia-ctk does: the hosts are found whatever stands around them."""
        root = node(tmp_path, {self.DAEMON: text}, self.CONFIG)
        do(root)
        place = root.host(self.DAEMON)
        theirs = {**json.loads(text), "runtimes": {"é": {"path": "/x"}}}
        content = {**theirs, "insecure-registries": [*listed.get("insecure-registries", []), HUB]}
        place.write_text(json.dumps(content, indent=4, sort_keys=True, ensure_ascii=False))
        if again:
            root.host(CONFIG).write_text(f"{self.CONFIG}registries:\n- address: http://b:5000\n")
            do(root)
        removal = plan_removal(root, CONFIG)
        list(uninstall(removal, None))
        assert json.loads(place.read_text()) == {**theirs, **listed}
        assert '\n    "runtimes"' in place.read_text()

    def test_an_authority(self, tmp_path: Path, ca: str) -> None:
        """In certs.d, which docker reads at each pull."""
        config = "cri: /run/cri-dockerd.sock\naddress: https://s.example\nhub: {caFile: /s.pem}\n"
        root = node(tmp_path, {"/s.pem": ca}, config)
        do(root)
        assert root.text("/etc/docker/certs.d/s.example/image-cri-shim.crt") == ca
        assert not root.exists(self.DAEMON)

    @pytest.mark.parametrize("flag", ["--insecure-registry=a:1", "--insecure-registry a:1"])
    def test_a_flag_of_the_unit(self, tmp_path: Path, flag: str) -> None:
        """With the flag and the key dockerd does not start."""
        unit = f"[Service]\nExecStart=/usr/bin/dockerd {flag}\n"
        root = node(tmp_path, {"/lib/systemd/system/docker.service": unit}, self.CONFIG)
        with pytest.raises(NotOursError) as refused:
            do(root)
        assert refused.value.addition == f"--insecure-registry={HUB}\n"

    @pytest.mark.parametrize("file", ["/etc/default/docker", "/etc/sysconfig/docker"])
    def test_a_flag_of_its_environment_file(self, tmp_path: Path, file: str) -> None:
        """As Debian's package and RHEL's have it; a host that is in it needs nothing more."""
        unit = f"[Service]\nEnvironmentFile=-{file}\nExecStart=/usr/sbin/dockerd $OPTIONS\n"
        files = {"/lib/systemd/system/docker.service": unit}
        root = node(
            tmp_path, {**files, file: f'OPTIONS="--insecure-registry={HUB}"\n'}, self.CONFIG
        )
        do(root)
        assert not root.exists(self.DAEMON)
        root.host(file).write_text("OPTIONS='--insecure-registry a:1'\n")
        with pytest.raises(NotOursError):
            do(root)

    def test_the_file_that_it_is_started_with(self, tmp_path: Path) -> None:
        """Where that is another one."""
        unit = "[Service]\nExecStart=/usr/bin/dockerd --config-file=/etc/docker/k8s.json\n"
        files = {"/lib/systemd/system/docker.service": unit, "/etc/docker/k8s.json": "{}"}
        root = node(tmp_path, files, self.CONFIG)
        do(root)
        assert HUB in (root.text("/etc/docker/k8s.json") or "")
        assert not root.exists(self.DAEMON)


class TestDistributions:
    @pytest.mark.parametrize("name", ["k3s", "rke2"])
    def test_registries_yaml(self, tmp_path: Path, ca: str, name: str) -> None:
        """Written where there is none; it is read at the start, which comes at once."""
        config = f"{PLAIN}registries:\n- {{address: 'https://s.example', caFile: /s.pem}}\n"
        files = {f"/var/lib/rancher/{name}/x": "", "/s.pem": ca}
        root = node(tmp_path, files, config)
        before = tree(root)
        unit = {"k3s": "k3s.service", "rke2": "rke2-server.service"}[name]
        control = NotedSystemd({unit})
        assert f"{unit} restarted: it has read its files" in do(root, control)
        assert f"restart {unit}" in control.asked
        assert yaml.safe_load(root.text(f"/etc/rancher/{name}/registries.yaml") or "") == {
            "mirrors": {
                HUB: {"endpoint": [f"http://{HUB}"]},
                "s.example": {"endpoint": ["https://s.example"]},
            },
            "configs": {"s.example": {"tls": {"ca_file": "/s.pem"}}},
        }
        after = tree(root)
        do(root)
        assert tree(root) == after
        undo(root)
        assert tree(root) == before

    def test_somebody_elses_registries_yaml(self, tmp_path: Path) -> None:
        """Left alone: refused with the text, or right already."""
        path = "/etc/rancher/k3s/registries.yaml"
        root = node(tmp_path, {"/var/lib/rancher/k3s/x": "", path: "mirrors: {}\n"})
        with pytest.raises(NotOursError) as refused:
            do(root)
        root.host(path).write_text(refused.value.addition)
        assert plan(request(root, wire=False, runtime=True)).for_runtime == []

    def test_microk8s(self, tmp_path: Path) -> None:
        """Its containerd has a certs.d of its own."""
        certs = "/var/snap/microk8s/current/args/certs.d"
        config = (
            'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\n'
            f'config_path = "{certs}"\n'
        )
        root = node(tmp_path, {"/var/snap/microk8s/current/args/containerd.toml": config})
        do(root)
        assert root.exists(f"{certs}/{HUB}/hosts.toml")
        root.host("/var/snap/microk8s/current/args/containerd.toml").write_text("version = 2\n")
        with pytest.raises(NotOursError, match="by hand"):
            do(root)

    @pytest.mark.parametrize("unit", ["k0sworker", "k0scontroller"])
    def test_k0s(self, tmp_path: Path, unit: str) -> None:
        """A part of containerd's configuration is its own; k0s reads it at its start."""
        there = {f"/etc/systemd/system/{unit}.service": "[Service]\nExecStart=/usr/bin/k0s x\n"}
        root = node(tmp_path, {"/var/lib/k0s/x": "", **there})
        before = tree(root)
        control = NotedSystemd({f"{unit}.service"})
        do(root, control)
        assert f"restart {unit}.service" in control.asked
        part = tomllib.loads(root.text("/etc/k0s/containerd.d/image-cri-shim.toml") or "")
        registry = {"config_path": "/etc/containerd/certs.d"}
        plugins = {"io.containerd.grpc.v1.cri": {"registry": registry}}
        assert part == {"version": 2, "plugins": plugins}
        assert tomllib.loads(root.text(HOSTS) or "")["host"].keys() == {f"http://{HUB}"}
        after = tree(root)
        do(root)
        assert tree(root) == after
        undo(root)
        assert tree(root) == before

    def test_a_part_of_k0s_that_tells_of_registries(self, tmp_path: Path) -> None:
        """What it says counts: a second place would take its place."""
        part = (
            'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\n'
            'config_path = "/etc/theirs"\n'
        )
        path = "/etc/k0s/containerd.d/registries.toml"
        root = node(tmp_path, {"/var/lib/k0s/x": "", path: part})
        do(root)
        assert root.text(path) == part
        assert root.exists(f"/etc/theirs/{HUB}/hosts.toml")
        assert list(root.names("/etc/k0s/containerd.d")) == ["registries.toml"]

    def test_a_configuration_of_containerd_that_is_not_k0s_own(self, tmp_path: Path) -> None:
        """Without k0s' first line it is somebody's, and what is in the folder does not count."""
        path = "/etc/k0s/containerd.toml"
        root = node(tmp_path, {"/var/lib/k0s/x": "", path: 'version = 2\nroot = "/r"\n'})
        before = tree(root)
        control = NotedSystemd({"k0sworker.service"})
        do(root, control)
        assert "restart k0sworker.service" in control.asked
        assert tomllib.loads(root.text(path) or "")["plugins"] == {
            "io.containerd.grpc.v1.cri": {"registry": {"config_path": "/etc/containerd/certs.d"}}
        }
        assert not root.exists("/etc/k0s/containerd.d")
        after = tree(root)
        assert plan(request(root, wire=False, runtime=True)).for_runtime == []
        do(root, control)
        assert tree(root) == after
        undo(root, control)
        assert tree(root) == before

    @pytest.mark.parametrize("start", ["# k0s_managed=true\n", "\n# k0s_managed=true\r\n"])
    def test_a_configuration_of_containerd_that_k0s_writes(
        self, tmp_path: Path, start: str
    ) -> None:
        """It would be lost at k0s' next start; of an older one an empty line comes first."""
        path = "/etc/k0s/containerd.toml"
        root = node(tmp_path, {"/var/lib/k0s/x": "", path: f"{start}version = 2\n"})
        planned = plan(request(root, wire=False, runtime=True)).for_runtime
        assert planned[0].path == "/etc/k0s/containerd.d/image-cri-shim.toml"
        assert path not in [each.path for each in planned]

    def test_a_part_of_k0s_without_version(self, tmp_path: Path) -> None:
        """It is laid over a configuration of version 2."""
        table = 'plugins."io.containerd.grpc.v1.cri".registry.mirrors'
        part = f'[{table}."docker.io"]\n  endpoint = ["https://mirror.example.com"]\n'
        path = "/etc/k0s/containerd.d/mirrors.toml"
        root = node(tmp_path, {"/var/lib/k0s/x": "", path: part})
        do(root)
        assert f'[{table}."{HUB}"] # image-cri-shim\n' in (root.text(path) or "")
        assert list(root.names("/etc/k0s/containerd.d")) == ["mirrors.toml"]
