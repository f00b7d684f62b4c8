"""Who may change what: the cluster's documents tighten, move no password and name no file."""

from __future__ import annotations

from pathlib import Path

import pytest

from shimcore.cluster.documents import ClusterPart, Document, Kind, read_cluster_document
from shimcore.config import Config, Fallback, Names, load
from shimcore.config.model import KubernetesSource, LoneLogin, OnFailure
from shimcore.errors import ConfigError

CONFIG_MAP = "ConfigMap kube-system/image-cri-shim"
SECRET = "Secret kube-system/image-cri-shim"
LOGIN = "auth: {username: admin, password: s3cret}"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    return tmp_path / "shim.yaml"


def over(file: Path, local: str, config_map: str = "", secret: str = "") -> Config:
    if "kubernetes:" not in local:
        local += "\nkubernetes: {enabled: true}"
    file.write_text(local + "\n")
    file.chmod(0o600)
    documents = {
        kind: Document(text, "1")
        for kind, text in ((Kind.CONFIG_MAP, config_map), (Kind.SECRET, secret))
        if text
    }
    return load(file, ClusterPart(KubernetesSource(enabled=True), documents))


def logins(config: Config) -> dict[str, str | None]:
    """Address → password."""
    return {
        one.address: one.credentials.password if one.credentials else None
        for one in config.registries
    }


def test_the_secrets_password_does_not_follow_a_changed_address(file: Path) -> None:
    """The attack: the Secret has a login alone, the ConfigMap's address is changed."""
    config = over(
        file,
        "address: http://sealos.hub:5000",
        "sealos: {address: http://attacker.example:5000}",
        f"sealos: {{{LOGIN}}}",
    )
    assert logins(config) == {"http://attacker.example:5000": None}
    assert config.lone_logins == (LoneLogin(SECRET, "sealos.auth"),)
    assert any("sealos.auth has no address beside it" in notice for notice in config.notices)
    assert "s3cret" not in repr(config)


@pytest.mark.parametrize(
    "document",
    [
        f"sealos: {{address: 'http://sealos.hub:5000', {LOGIN}}}",
        "address: http://sealos.hub:5000\nauth: admin:s3cret",
        "sealos: {address: 'http://sealos.hub:5000'}\nauth: admin:s3cret",
        "sealos: {address: 'http://SEALOS.hub:5000/'}\nauth: {username: admin, password: s3cret}",
    ],
)
def test_a_login_beside_its_address(file: Path, document: str) -> None:
    """In the Go shim's format and in ours, and in whichever object."""
    for texts in ((document, ""), ("", document)):
        config = over(file, "address: http://other.example", *texts)
        assert logins(config) == {"http://sealos.hub:5000": "s3cret"}
        assert config.lone_logins == ()


def test_the_secrets_login_for_an_equal_address_elsewhere(file: Path) -> None:
    """The Secret's hub is the one it names: the ConfigMap's other one does not get the login."""
    secret = f"sealos: {{address: 'http://sealos.hub:5000', {LOGIN}}}"
    config = over(file, "address: http://sealos.hub:5000", "sealos: {address: h.example}", secret)
    assert logins(config) == {"http://sealos.hub:5000": "s3cret"}


@pytest.mark.parametrize(
    ("address", "password"),
    [
        ("https://a.example:5000", "s3cret"),
        ("a.example:5000", "s3cret"),
        ("http://a.example:5000", None),
        ("https://a.example:5001", None),
        ("https://a.example", None),
        ("https://b.example:5000", None),
    ],
)
def test_equal_is_scheme_host_and_port(file: Path, address: str, password: str | None) -> None:
    """The file's login for a registry, and what the cluster calls it."""
    for local in (
        "address: https://a.example:5000\nauth: admin:s3cret",
        "address: hub.example\nregistries: [{address: 'https://a.example:5000', auth: 'u:s3cret'}]",
    ):
        config = over(file, local, f"registries: [{{address: '{address}'}}]\naddress: h.example")
        assert logins(config)[config.registries[-1].address] == password
        assert logins(config)["https://h.example"] is None


def test_a_login_of_the_configmap_for_the_secrets_registry(file: Path) -> None:
    """Entries of one host: the Secret's address, and a login only if that was written for it."""
    config = over(
        file,
        "address: hub.example",
        f"registries: [{{address: 'https://a.example', {LOGIN}, priority: 7}}]",
        "registries: [{address: 'http://a.example'}]",
    )
    assert logins(config)["http://a.example"] is None


def test_lone_logins_of_every_place(file: Path, tmp_path: Path) -> None:
    """An entry of a list, the top of a document, the file's list: none is used, all are told."""
    config = over(
        file,
        "address: hub.example\nregistries: [{auth: 'u:s3cret'}]",
        "auth: u:s3cret",
        f"registries: [{{{LOGIN}}}, {{address: '', {LOGIN}}}]",
    )
    assert logins(config) == {"https://hub.example": None}
    assert [(one.origin, one.path) for one in config.lone_logins] == [
        (str(file), "registries[0]"),
        (CONFIG_MAP, "auth"),
        (SECRET, "registries[0].auth"),
        (SECRET, "registries[1].auth"),
    ]


def test_tls_is_not_loosened(file: Path) -> None:
    """The attack: a login of the file's, and the ConfigMap accepts any certificate for it."""
    config = over(
        file,
        "address: https://a.example\nauth: admin:s3cret\nregistries: [{address: b.example}]",
        "hub: {insecureSkipVerify: true, caFile: /etc/shadow}\n"
        "registries: [{address: b.example, insecureSkipVerify: true}]\ntimeout: 7m",
    )
    assert not any(one.insecure_skip_verify or one.ca_file for one in config.registries)
    assert config.timeout_s == 420
    warnings = [notice for notice in config.notices if "only the node's file" in notice]
    assert warnings == [
        f"{CONFIG_MAP}: registries[0].insecureSkipVerify, hub.insecureSkipVerify, hub.caFile: "
        "ignored: only the node's file may say it"
    ]


@pytest.mark.parametrize(
    "text",
    [
        *(f"{key}: /x" for key in ("shim", "cri", "admin", "stateDir", "metrics", "onFailure")),
        "names: registry",
        "sandboxImage: evil.example/pause:1",
        "kubernetes: {hosts: ['*'], enabled: false}",
        "hub: {passwordFile: /etc/shadow, dockerConfig: /x, stallTimeout: nonsense}",
        "registries: [{address: r.example, passwordFile: /etc/shadow, stallTimeout: 1m}]",
        "image: old",
        "registry.d: [not, looked, at]",
    ],
)
def test_what_is_the_nodes_own_is_ignored(file: Path, text: str) -> None:
    """With one warning that names it; what stands beside it counts."""
    config = over(file, "address: h.example", text + "\ndebug: true")
    assert config.debug
    [warning] = config.notices
    assert warning.startswith(f"{CONFIG_MAP}: ")
    assert text.split(":", maxsplit=1)[0].split("[", maxsplit=1)[0] in warning
    assert "/etc/shadow" not in warning
    assert config.names is Names.ORIGINAL
    assert config.sandbox_image is None
    assert config.registries[-1].password_file is None


def test_a_warning_has_a_bound(file: Path) -> None:
    """Two hundred ignored paths are one line that counts them."""
    entries = ", ".join(f"{{address: r{n}.example, caFile: /x}}" for n in range(200))
    [warning] = over(file, "address: h.example", f"registries: [{entries}]").notices
    assert "and 192 more" in warning
    assert len(warning) < 500


@pytest.mark.parametrize("where", ["file", "ConfigMap"])
def test_deny_stays(file: Path, where: str) -> None:
    """`allow` from the cluster is not heard once somebody says deny."""
    local = "address: h.example" + ("\nfallback: deny" if where == "file" else "")
    config_map = "fallback: deny" if where == "ConfigMap" else ""
    config = over(file, local, config_map, "fallback: allow")
    assert config.fallback is Fallback.DENY
    assert config.on_failure is OnFailure.CLOSED
    assert any(f"{SECRET}: fallback: ignored" in notice for notice in config.notices)


def test_the_cluster_says_deny(file: Path) -> None:
    """Tightening is what it may."""
    assert over(file, "address: h.example", "fallback: deny").fallback is Fallback.DENY
    assert over(file, "address: h.example", "fallback: allow").notices == ()


def test_exclude_only_grows(file: Path) -> None:
    """The file's patterns stay, and the cluster's come after them."""
    config = over(file, "address: h.example\nexclude: [a, b]", "exclude: [b, c]", "exclude: [d, a]")
    assert config.exclude == ("a", "b", "c", "d")


def test_nothing_gets_out_by_exclude_under_the_nodes_deny(file: Path) -> None:
    """The attack: an excluded name goes out as it is, so `exclude: ['*']` undoes deny."""
    config = over(file, "address: h.example\nfallback: deny\nexclude: [a]", "exclude: ['*']")
    assert config.exclude == ("a",)
    assert any(f"{CONFIG_MAP}: exclude: ignored" in notice for notice in config.notices)


@pytest.mark.parametrize(
    ("local", "domains", "served"),
    [
        ("", "[docker.io, '*.example']", {"docker.io", "*.example"}),
        ("{address: r.example, domains: [docker.io]}", "['*']", {"docker.io"}),
        ("{address: r.example, domains: [docker.io]}", "[quay.io, docker.io]", {"docker.io"}),
        ("{address: r.example, domains: ['*.io']}", "['docker.*', 'k*.io']", {"k*.io"}),
        ("{address: r.example, domains: ['*']}", "[quay.io, '*.io']", {"quay.io", "*.io"}),
    ],
)
def test_domains_only_narrow(file: Path, local: str, domains: str, served: set[str]) -> None:
    """Only what the registry serves without the document."""
    config = over(
        file,
        f"address: h.example\nregistries: [{local}]",
        f"registries: [{{address: r.example, domains: {domains}}}]",
    )
    assert config.registries[-1].mirror.domains == frozenset(served)


def test_a_public_registry_is_not_widened(file: Path) -> None:
    """Anyone may register org/app there: it would stand in for everybody's images."""
    text = "registries: [{address: quay.io, domains: ['*', docker.io]}]"
    config = over(file, "address: h.example", text)
    assert config.registries[-1].mirror.domains is None
    assert any("registries[0].domains: ignored" in notice for notice in config.notices)


def test_hosts_that_the_cluster_may_name(file: Path) -> None:
    """Another registry's entry does not count: not its address, not its login."""
    local = (
        "address: http://own.hub:5000\nregistries: [{address: gone.example}]\n"
        "kubernetes: {enabled: true, hosts: ['*.good.example', 'own.hub:*']}"
    )
    config = over(
        file,
        local,
        f"sealos: {{address: 'http://evil.example', {LOGIN}}}\nregistries: ["
        f"{{address: a.good.example}}, {{address: 'b.good.example:444'}}, "
        f"{{address: 'good.example.evil.example', {LOGIN}}}]",
    )
    assert logins(config) == {"http://own.hub:5000": None, "https://a.good.example": None}
    assert config.lone_logins == ()
    [warning] = config.notices
    assert warning.startswith(
        f"{CONFIG_MAP}: address, registries[1].address, registries[2].address"
    )


@pytest.mark.parametrize("host", ["a b", "x/y", "", "host:*:1", "http://h.example", "a" * 300])
def test_what_is_no_pattern_of_hosts(file: Path, host: str) -> None:
    """A fault of the file."""
    with pytest.raises(ConfigError, match=r"kubernetes.hosts\[0\]"):
        over(file, f"address: h.example\nkubernetes: {{hosts: ['{host}']}}")


def test_the_hub_in_both_formats_at_once() -> None:
    """Which one counts would be anyone's guess."""
    with pytest.raises(ConfigError, match=r"sealos.address is given as well"):
        read_cluster_document("sealos: {address: a.example}\naddress: b.example", CONFIG_MAP)


@pytest.mark.parametrize(
    ("text", "attribute", "seconds"),
    [
        ("timeout: 1ms", "timeout_s", 1.0),
        ("timeout: 9000h", "timeout_s", 8760 * 3600.0),
        ("reloadInterval: 1ns", "reload_interval_s", 0.1),
        ("probeTimeout: 1ns", "probe_timeout_s", 0.1),
        ("probeTimeout: 24h", "probe_timeout_s", 300.0),
        ("negativeCacheTTL: 100h", "negative_cache_ttl_s", 3600.0),
    ],
)
def test_durations_are_brought_within_bounds(
    file: Path, text: str, attribute: str, seconds: float
) -> None:
    """From the cluster with a warning; in the file they are a fault."""
    config = over(file, "address: h.example", text)
    assert getattr(config, attribute) == seconds
    [warning] = config.notices
    assert text.split(":", maxsplit=1)[0] in warning
    with pytest.raises(ConfigError, match="between"):
        over(file, f"address: h.example\n{text}")


def test_a_duration_below_zero_is_the_default(file: Path) -> None:
    """Where it is so in the Go shim, with one warning; elsewhere it keeps the part out."""
    config = over(file, "address: h.example\nreloadInterval: 1m", "reloadInterval: -1s")
    assert config.reload_interval_s == 15.0
    [warning] = config.notices
    assert "reloadInterval: -1s is below 0; 15s is used" in warning
    with pytest.raises(ConfigError, match="negative"):
        over(file, "address: h.example", "timeout: -1s")


def test_the_caches_durations_are_bounded_too(file: Path) -> None:
    """A key inside a mapping."""
    config = over(file, "address: h.example", "cache: {statsLogInterval: 1ns, imageCacheSize: 9}")
    assert config.cache.stats_interval_s == 1.0
    assert config.cache.size == 9


def test_a_cluster_cannot_decide_how_the_shim_fails(file: Path) -> None:
    """`onFailure` is the file's; by default it follows `fallback`."""
    assert over(file, "address: h.example", "onFailure: bypass").on_failure is OnFailure.BYPASS
    text = "address: h.example\nfallback: deny\nonFailure: bypass"
    assert over(file, text).on_failure is OnFailure.BYPASS
    assert over(file, "address: h.example\nonFailure: closed").on_failure is OnFailure.CLOSED
