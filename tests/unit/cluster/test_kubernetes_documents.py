"""The cluster's part: what its documents may say, and how it goes over the node's file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shimcore.cluster.api import Api
from shimcore.cluster.documents import ClusterPart, Document, Kind, read_cluster_document
from shimcore.cluster.errors import ApiUnreachableError
from shimcore.config import Config, Watcher, load, masked
from shimcore.config.model import KubernetesSource
from shimcore.config.provenance import sources, values
from shimcore.errors import ConfigError

SOURCE = KubernetesSource(enabled=True)
CONFIG_MAP = "ConfigMap kube-system/image-cri-shim"
SECRET = "Secret kube-system/image-cri-shim"
SEALOS = """
version: v1
sealos:
  address: http://sealos.hub:5000
  auth: {username: admin, password: "pass:word"}
registries:
  - address: https://registry.example.com
    auth: {username: robot, password: secret-1}
    priority: 800
  - address: quay.io
offlinePriority: 900
reloadInterval: 20s
force: true
debug: true
timeout: 10m
cache: {imageCacheSize: 2048, imageCacheTTL: 45m, domainCacheTTL: 15m, disableStats: true}
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    return tmp_path / "shim.yaml"


def part(config_map: str | None = None, secret: str | None = None, **named: Any) -> ClusterPart:
    documents = {}
    if config_map is not None:
        documents[Kind.CONFIG_MAP] = Document(config_map, "1")
    if secret is not None:
        documents[Kind.SECRET] = Document(secret, "2")
    return ClusterPart(KubernetesSource(enabled=True, **named), documents)


def write(path: Path, text: str) -> Path:
    path.write_text(text + "\nkubernetes: {enabled: true}\n")
    path.chmod(0o600)
    return path


def over(
    path: Path, local: str, config_map: str | None = None, secret: str | None = None
) -> Config:
    return load(write(path, local), part(config_map, secret))


def faults_of(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_cluster_document(text, CONFIG_MAP)
    assert caught.value.source == CONFIG_MAP
    return [str(fault) for fault in caught.value.faults]


def test_everything_that_the_go_shim_reads(file: Path) -> None:
    """Each key of its format has its effect, and the local file's other keys stay."""
    config = over(
        file,
        "address: https://old.example\ncri: /run/c.sock\nregistries: [{address: gone.example}]",
        SEALOS,
    )
    tree = masked(config)
    assert tree["address"] == "http://sealos.hub:5000"
    assert tree["auth"] == "admin:***"
    assert config.hub.credentials is not None
    assert config.hub.credentials.password == "pass:word"
    assert tree["cri"] == "/run/c.sock"
    assert [(one["address"], one["priority"]) for one in tree["registries"]] == [
        ("https://registry.example.com", 800),
        ("https://quay.io", 500),
    ]
    assert tree["offlinePriority"] == 900
    assert (tree["reloadInterval"], tree["timeout"]) == ("20s", "10m")
    assert (config.force, config.debug) == (True, True)
    assert tree["cache"] == {
        "imageCacheSize": 2048,
        "imageCacheTTL": "45m",
        "domainCacheTTL": "15m",
        "statsLogInterval": "1m",
        "disableStats": True,
    }


def test_what_is_empty_changes_nothing(file: Path) -> None:
    """As in the Go shim: an empty text, list or mapping is not given."""
    local = "address: https://hub.example\nauth: a:b\nregistries: [{address: quay.io}]\ntimeout: 5m"
    empty = (
        'version: v1\nsealos: {address: "", auth: {username: "", password: ""}}\n'
        'registries: []\ntimeout: ""\ncache: {}'
    )
    assert masked(over(file, local, empty)) == masked(load(file))


def test_the_file_is_not_touched(file: Path) -> None:
    """The cluster's part is merged in memory alone."""
    over(file, "address: https://hub.example", SEALOS)
    assert "sealos" not in file.read_text()


def test_the_secret_wins(file: Path) -> None:
    """Its values go over the ConfigMap's; registries of the same host are one, others stay."""
    config_map = """
sealos: {address: http://hub.example:5000, auth: {username: a, password: from-map}}
registries: [{address: https://one.example, priority: 700}, {address: https://two.example}]
"""
    secret = """
sealos: {address: http://hub.example:5000, auth: {username: b, password: from-secret}}
registries: [{address: one.example, auth: {username: c, password: d}}, {address: three.example}]
"""
    config = over(file, "address: https://local.example", config_map, secret)
    found = {registry.host: registry for registry in config.registries}
    assert found["hub.example:5000"].credentials is not None
    assert found["hub.example:5000"].credentials.password == "from-secret"
    assert found["one.example"].priority == 700
    assert found["one.example"].credentials is not None
    assert set(found) == {"hub.example:5000", "one.example", "two.example", "three.example"}


def test_each_value_knows_where_it_came_from(file: Path) -> None:
    """File, ConfigMap, Secret and default, also after the registries have been put in order."""
    config = over(
        file,
        "address: https://hub.example\nnames: both\n"
        "registries: [{address: one.example, path: 'p/{path}'}]",
        "registries: [{address: low.example, priority: 1}, {address: one.example, priority: 900}]\n"
        "cache: {imageCacheSize: 5}",
        "registries: [{address: one.example, auth: {username: u, password: hidden-9}}]",
    )
    origins = {value.key: value.origin for value in values(config)}
    assert origins["address"] == str(file)
    assert origins["names"] == str(file)
    assert origins["registries[0].priority"] == CONFIG_MAP
    assert origins["registries[0].auth"] == SECRET
    assert origins["registries[0].path"] == str(file)
    assert origins["registries[1].priority"] == CONFIG_MAP
    assert origins["registries[1].path"] == "default"
    assert origins["cache.imageCacheSize"] == CONFIG_MAP
    assert origins["cache.imageCacheTTL"] == "default"
    assert sources(config)[0] == str(file)
    assert set(sources(config)) == {str(file), CONFIG_MAP, SECRET}
    assert "hidden-9" not in repr(values(config))


def test_no_representation_shows_a_password() -> None:
    """As in a traceback, or where somebody logs a value."""
    cluster = part(SEALOS, "sealos: {address: a.b, auth: {username: a, password: hidden-9}}")
    shown = repr((cluster, cluster.layers(), cluster.documents[Kind.SECRET]))
    assert not any(secret in shown for secret in ("hidden-9", "pass:word", "secret-1"))


def test_a_login_stays_with_its_registry(file: Path) -> None:
    """Another hub named by the cluster does not get the login or the options of the file's."""
    local = "address: https://hub.example\nauth: admin:local-pass\nhub: {insecureSkipVerify: true}"
    config = over(file, local, "sealos: {address: https://evil.example}")
    assert config.hub.credentials is None
    assert not config.hub.insecure_skip_verify
    assert any("another hub" in notice and "auth" in notice for notice in config.notices)


@pytest.mark.parametrize(
    ("named", "kept"),
    [
        ("https://hub.example", True),
        ("hub.example", True),
        ("https://hub.example:443", True),
        ("http://hub.example", False),
        ("http://hub.example:443", False),
        ("https://hub.example:444", False),
    ],
)
def test_a_login_is_not_sent_less_protected(file: Path, named: str, kept: bool) -> None:
    """The same host without TLS is not the registry that the login was given for."""
    config = over(
        file, "address: https://hub.example\nauth: a:b", f"sealos: {{address: '{named}'}}"
    )
    assert (config.hub.credentials is not None) == kept


def test_a_login_goes_over_a_login_file(file: Path, tmp_path: Path) -> None:
    """Where the cluster gives a login, the file's passwordFile for that registry is not asked."""
    (tmp_path / "pass").write_text("a:from-file\n")
    (tmp_path / "pass").chmod(0o600)
    local = (
        "address: https://hub.example\nhub: {passwordFile: pass, insecureSkipVerify: true}\n"
        "registries: [{address: one.example, passwordFile: pass, insecureSkipVerify: true}]"
    )
    cluster = (
        "sealos: {address: hub.example, auth: {username: u, password: from-cluster}}\n"
        "registries: [{address: one.example, auth: {username: u, password: from-cluster}}]"
    )
    for registry in over(file, local, cluster).registries:
        assert registry.credentials is not None
        assert registry.credentials.password == "from-cluster"
        assert registry.insecure_skip_verify


def test_all_faults_at_once() -> None:
    """Each with the path that its author knows; no secret in any."""
    text = """
sealos: {address: "ftp://x", auth: {username: "a:b", pasword: hunter2}}
registries: [{address: quay.io, priority: high}, {adress: x}]
timeout: soon
offlineprio: 3
"""
    found = faults_of(text)
    assert [fault.split(":")[0] for fault in found] == [
        "offlineprio",
        "sealos.address",
        "sealos.auth.pasword",
        "registries[0].priority",
        "registries[1].adress",
        "timeout",
    ]
    assert "did you mean password?" in " ".join(found)
    assert "hunter2" not in " ".join(found)


@pytest.mark.parametrize("text", ["- a", "just text", "a: [", "\0", "a: 1\n\udcff: 2"])
def test_what_is_no_document(text: str) -> None:
    """Anything that is not YAML with keys is a fault, never an accident."""
    assert faults_of(text)


def test_a_colon_in_a_user_name() -> None:
    """It would move the split between user and password."""
    assert faults_of("sealos: {auth: {username: 'a:b', password: c}}") == [
        "sealos.auth.username: a user name has no colon"
    ]


def test_faults_that_only_the_two_together_have(file: Path) -> None:
    """They name the file and the object, and the merged key."""
    cluster = "registries: [{address: 'http://hub.example', auth: 'u:p'}]"
    with pytest.raises(ConfigError) as caught:
        over(file, "address: https://hub.example", cluster)
    assert caught.value.source == f"{file} with {CONFIG_MAP}"
    assert "the same registry as in address" in str(caught.value)


def test_both_objects_are_faulty(file: Path) -> None:
    """The faults of both are said."""
    with pytest.raises(ConfigError) as caught:
        over(file, "address: https://hub.example", "timeout: x", "debug: x")
    assert caught.value.source == f"{CONFIG_MAP} and {SECRET}"
    assert [fault.path for fault in caught.value.faults] == ["timeout", "debug"]


def test_a_part_that_is_not_wanted(file: Path) -> None:
    """Switched off, or of another name, it is not merged."""
    file.write_text("address: https://hub.example\nkubernetes: {enabled: false}\n")
    assert load(file, part("timeout: 1m")).timeout_s == 900
    file.write_text("address: https://hub.example\nkubernetes: {enabled: true, name: other}\n")
    assert load(file, part("timeout: 1m")).timeout_s == 900
    assert load(file, part("timeout: 1m", name="other")).timeout_s == 60


def test_no_warning_that_the_file_holds_the_clusters_password(file: Path) -> None:
    """A file that others can read is warned of only if the password stands in it."""
    file.write_text("address: https://hub.example\nkubernetes: {enabled: true}\n")
    file.chmod(0o644)
    config = load(file, part("sealos: {address: hub.example, auth: {username: a, password: b}}"))
    assert config.hub.credentials is not None
    assert config.notices == ()


def test_a_refused_part_is_tried_again_with_a_new_file(file: Path) -> None:
    """If the file was the fault, mending it brings the part into force."""
    watcher = Watcher(file, load(write(file, "address: https://hub.example")))
    with pytest.raises(ConfigError):
        watcher.put(part("registries: [{address: 'http://hub.example', auth: 'u:p'}]"))
    assert watcher.cluster is None
    write(file, "address: https://other.example")
    config = watcher.check()
    assert config is not None
    assert {registry.host for registry in config.registries} == {"other.example", "hub.example"}


def test_kubelets_own_login(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the distributions' places the one that is there; before kubelet has joined, kubeadm's."""
    places = [str(file.parent / name) for name in ("kubeadm", "k3s", "k0s")]
    monkeypatch.setattr("shimcore.config.building.KUBELET_CONFIGS", places)
    file.write_text("address: https://hub.example\nkubernetes: {enabled: true}\n")
    assert load(file).kubernetes.kubeconfig == places[0]
    for place in reversed(places[1:]):
        Path(place).touch()
        assert load(file).kubernetes.kubeconfig == place


def test_kubelets_own_login_comes_later(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shim that started before kubelet had one finds it when it connects, wherever it is."""
    places = [str(file.parent / name) for name in ("kubeadm", "k3s")]
    monkeypatch.setattr("shimcore.config.building.KUBELET_CONFIGS", places)
    file.write_text("address: https://hub.example\nkubernetes: {enabled: true}\n")
    source = load(file).kubernetes
    Path(places[1]).write_text("no kubeconfig")
    with pytest.raises(ApiUnreachableError, match=f"kubeconfig {places[1]}: not a kubeconfig"):
        Api(source)
    with pytest.raises(ApiUnreachableError, match=f"kubeconfig {places[0]}: no such file"):
        Api(replace(source, by_default=False))


def test_when_it_is_on(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default only where a kubeconfig is configured or given by KUBECONFIG."""

    def source(text: str) -> KubernetesSource:
        file.write_text(f"address: https://hub.example\n{text}\n")
        return load(file).kubernetes

    assert not source("").enabled
    assert source("kubernetes: {kubeconfig: /k}") == KubernetesSource(True, "/k")
    assert not source("kubernetes: {kubeconfig: /k, enabled: false}").enabled
    monkeypatch.setenv("KUBECONFIG", "/first:/second")
    assert source("") == KubernetesSource(True, "/first")
    assert not source("kubernetes: {enabled: false}").enabled
    origins = {value.key: value.origin for value in values(load(file))}
    assert origins["kubernetes.kubeconfig"] == "environment (KUBECONFIG)"
    assert origins["kubernetes.enabled"] == str(file)
