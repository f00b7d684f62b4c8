"""What a configuration file means, key by key."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from shimcore.config import Config, Fallback, Names, load, masked, parse_config
from shimcore.config.keys import TOP_KEYS, Kind
from shimcore.errors import ConfigError

GO_SHIM_FILE = """\
shim: /var/run/image-cri-shim.sock
cri: /run/containerd/containerd.sock
address: http://sealos.hub:5000
force: true
debug: true
image: /var/lib/image-cri-shim
sync: 0
version: v1alpha2
timeout: 20m
reloadInterval: 15s
auth: admin:passw0rd
registry.d: testdata/registries
offlinePriority: 700
cache:
  imageCacheSize: 2048
  imageCacheTTL: 45m
  domainCacheTTL: 15m
  statsLogInterval: 120s
  disableStats: false
registries:
- address: docker.io
  auth: dockeruser:dockerpass
- address: https://registry.example.com/
  auth: ""
  priority: 800
- address: backup.example.com:5000
  priority: -50
"""


def read(text: str) -> Config:
    return parse_config(text, "test.yaml")


def test_a_file_of_the_go_shim_is_read_unchanged() -> None:
    """Every key of the Go shim has its meaning; its old keys are one notice."""
    config = read(GO_SHIM_FILE)
    assert config.shim_socket == "/var/run/image-cri-shim.sock"
    assert config.runtime_socket == "/run/containerd/containerd.sock"
    assert (config.hub.address, config.hub.host) == ("http://sealos.hub:5000", "sealos.hub:5000")
    assert config.hub.credentials is not None
    assert config.hub.credentials.password == "passw0rd"
    assert (config.force, config.debug, config.timeout_s) == (True, True, 1200.0)
    assert [(one.host, one.priority) for one in config.registries] == [
        ("registry.example.com", 800),
        ("sealos.hub:5000", 700),
        ("docker.io", 500),
        ("backup.example.com:5000", 0),
    ]
    assert config.registries[1] is config.hub
    assert config.cache.size == 2048
    assert config.cache.stats_interval_s == 120.0
    assert [notice for notice in config.notices if "old keys" in notice] == [
        "old keys, accepted and not used any more: image, sync, version, registry.d"
    ]


def test_what_the_go_shim_writes_back_is_read_as_defaults() -> None:
    """Empty text, null and zero durations, as a marshalled Go struct has them, are defaults."""
    config = read(
        'shim: ""\ncri: ""\naddress: http://h:1\nauth: ""\ntimeout: 0s\nreloadInterval: "0"\n'
        "registries: null\nofflinePriority: 0\n"
        "cache: {imageCacheSize: 0, imageCacheTTL: 0s, domainCacheTTL: 0s}\n"
    )
    assert config == read("address: http://h:1")


def test_only_the_address_is_required() -> None:
    """Every other key has its default."""
    config = read("address: sealos.hub")
    assert config.shim_socket == "/var/run/image-cri-shim.sock"
    assert config.admin_socket == "/var/run/image-cri-shim.sock.admin"
    assert config.runtime_socket is None
    assert config.hub.address == "https://sealos.hub"
    assert (config.hub.priority, config.hub.credentials) == (1000, None)
    assert (config.timeout_s, config.reload_interval_s) == (900.0, 15.0)
    assert (config.probe_timeout_s, config.negative_cache_ttl_s) == (3.0, 15.0)
    assert (config.fallback, config.names) == (Fallback.ALLOW, Names.ORIGINAL)
    assert (config.exclude, config.metrics, config.notices) == ((), None, ())
    assert config.state_dir == "/var/lib/image-cri-shim"
    assert (config.cache.size, config.cache.ttl_s, config.cache.domain_ttl_s) == (1024, 1800, 600)
    assert config.hub.mirror.path_template == "{path}"


def test_our_own_keys() -> None:
    """The keys that the Go shim does not know."""
    config = read(
        "address: http://sealos.hub:5000\n"
        "hub: {insecureSkipVerify: true, domains: [docker.io], path: 'dockerhub/{path}'}\n"
        "registries: [{address: quay.io, domains: ['*'], path: '{domain}/{path}'}]\n"
        "exclude: [registry.k8s.io/*]\nfallback: deny\nnames: original\nprobeTimeout: 300ms\n"
        "negativeCacheTTL: 0\nadmin: /run/a.sock\nstateDir: /srv/s\nmetrics: 9100\n"
    )
    assert config.hub.insecure_skip_verify
    assert config.hub.mirror.domains == frozenset({"docker.io"})
    assert config.hub.mirror.path_template == "dockerhub/{path}"
    assert config.registries[1].mirror.domains == frozenset({"*"})
    assert config.exclude == ("registry.k8s.io/*",)
    assert (config.fallback, config.names) == (Fallback.DENY, Names.ORIGINAL)
    assert (config.probe_timeout_s, config.negative_cache_ttl_s) == (0.3, 0.0)
    assert (config.admin_socket, config.state_dir) == ("/run/a.sock", "/srv/s")
    assert config.metrics == "127.0.0.1:9100"


@pytest.mark.parametrize(
    ("text", "user", "password"),
    [
        ("admin:passw0rd", "admin", "passw0rd"),
        ("admin:a:b:c", "admin", "a:b:c"),
        ("0123:0456", "0123", "0456"),
        ("12:34", "12", "34"),
        ("yes:no", "yes", "no"),
        ("1e3:0x10", "1e3", "0x10"),
        ("'a:  b '", "a", "  b "),
        ("'u:'", "u", ""),
    ],
)
def test_a_login_is_text_split_at_the_first_colon(text: str, user: str, password: str) -> None:
    """No YAML type touches a login: numbers, times and truth values stay as written."""
    credentials = read(f"address: h.example\nauth: {text}").hub.credentials
    assert credentials is not None
    assert (credentials.username, credentials.password) == (user, password)


@pytest.mark.parametrize("text", ["", "~", "null", "''", "':'", "' '"])
def test_no_login(text: str) -> None:
    """Nothing, null, blanks and a colon alone mean that there is no login."""
    assert read(f"address: h.example\nauth: {text}").hub.credentials is None


@pytest.mark.parametrize(
    ("text", "url", "host"),
    [
        ("http://sealos.hub:5000", "http://sealos.hub:5000", "sealos.hub:5000"),
        ("sealos.hub:5000", "https://sealos.hub:5000", "sealos.hub:5000"),
        ("HTTPS://Hub.Example/", "https://hub.example", "hub.example"),
        ("https://hub.example/v2/", "https://hub.example", "hub.example"),
        ("https://hub.example:443//", "https://hub.example:443", "hub.example:443"),
        ("http://[::1]:5000/v2", "http://[::1]:5000", "[::1]:5000"),
        ("http://registry", "http://registry", "registry:80"),
        ("registry", "https://registry", "registry:443"),
        ("localhost", "https://localhost", "localhost"),
        ("docker.io", "https://registry-1.docker.io", "docker.io"),
        ("https://index.docker.io/v1/", "https://registry-1.docker.io", "docker.io"),
        ("registry-1.docker.io:443", "https://registry-1.docker.io", "docker.io"),
    ],
)
def test_addresses(text: str, url: str, host: str) -> None:
    """An address is a URL with nothing after it, and a host that image names can have."""
    registry = read(f"address: '{text}'").hub
    assert (registry.address, registry.host) == (url, host)
    assert registry.scheme == url.partition(":")[0]
    assert registry.mirror.host == host


@pytest.mark.parametrize("text", ["unix:///run/x.sock", "unix:/run/x.sock", "/run/x.sock"])
def test_sockets(text: str) -> None:
    """A socket is a path, with or without unix: before it."""
    config = read(f"address: h.example\nshim: {text}\ncri: {text}2")
    assert config.shim_socket == "/run/x.sock"
    assert config.runtime_socket == "/run/x.sock2"


@pytest.mark.parametrize(
    ("text", "metrics"),
    [
        ("9100", "127.0.0.1:9100"),
        (":9100", "127.0.0.1:9100"),
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("'[::1]:1'", "[::1]:1"),
        ("Node_1.local.:1", "Node_1.local.:1"),
    ],
)
def test_metrics_addresses(text: str, metrics: str) -> None:
    """A port alone is that port on all addresses."""
    assert read(f"address: h.example\nmetrics: {text}").metrics == metrics


def test_odd_values_are_mended_with_a_notice() -> None:
    """A priority out of range, a cache without end and an empty registry stop nothing."""
    config = read(
        "address: h.example\nofflinePriority: 99999\ncache: {imageCacheSize: 99999}\n"
        "registries: [{address: ''}, {address: a.example, priority: 0}]"
    )
    assert config.hub.priority == 10_000
    assert config.cache.size == 65_536
    assert [one.priority for one in config.registries] == [10_000, 500]
    assert len(config.notices) == 3


@pytest.mark.parametrize("size", [-1, -7])
def test_a_cache_below_zero_is_off(size: int) -> None:
    """As in the Go shim, where 0 is the default; what is shown reads back as off."""
    config = read(f"address: h.example\ncache: {{imageCacheSize: {size}}}")
    assert (config.cache.size, config.notices) == (-1, ())
    assert read(yaml.safe_dump(masked(config))).cache == config.cache


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("reloadInterval: -1s", "reloadInterval"),
        ("cache: {imageCacheTTL: -1h}", "cache.imageCacheTTL"),
        ("cache: {domainCacheTTL: -1h}", "cache.domainCacheTTL"),
        ("cache: {statsLogInterval: -1ns}", "cache.statsLogInterval"),
    ],
)
def test_durations_below_zero_that_the_go_shim_takes(line: str, path: str) -> None:
    """They are the default, with a notice."""
    config, plain = read(f"address: h.example\n{line}"), read("address: h.example")
    assert config == replace(plain, notices=config.notices)
    [notice] = config.notices
    assert notice.startswith(f"{path}: ")
    assert "below 0" in notice


def test_of_a_host_that_is_given_twice_the_last_counts() -> None:
    """As in the Go shim, with its own login and priority, and a notice."""
    config = read(
        "address: h.example\nregistries:\n- {address: a.example, auth: 'u:old', priority: 7}\n"
        "- {address: b.example}\n- {address: 'https://A.example:443/', auth: 'u:new'}\n"
    )
    assert [(one.host, one.priority) for one in config.further_registries] == [
        ("a.example:443", 500),
        ("b.example", 500),
    ]
    assert _password(config, 1) == "new"
    assert config.notices == ("registries[0] is the same registry as registries[2], which counts",)


@pytest.mark.parametrize(
    ("own", "listed", "password"),
    [("u:own", "u:other", "own"), ("u:own", "", "own"), ("", "u:other", "other"), ("", "", None)],
)
def test_the_hub_listed_again(own: str, listed: str, password: str | None) -> None:
    """It stays the hub, with its own login if it has one: the Go shim tries that one first."""
    config = read(
        f"address: h.example\nauth: '{own}'\nhub: {{path: 'x/{{path}}'}}\n"
        f"registries: [{{address: 'https://h.example', auth: '{listed}', priority: 3}}]"
    )
    assert config.registries == (config.hub,)
    assert (config.hub.priority, config.hub.mirror.path_template) == (1000, "x/{path}")
    assert _password(config, 0) == password
    assert config.origins.get("auth") == ("test.yaml" if password else None)
    assert config.notices == ("registries[0] is the same registry as hub, which counts",)


def _password(config: Config, index: int) -> str | None:
    credentials = config.registries[index].credentials
    return credentials.password if credentials else None


@pytest.mark.parametrize(
    "text",
    [
        "---\naddress: h.example\n---\n",
        "address: h.example\n---",
        "---\n# a comment\n---\naddress: h.example\n--- # the end\n...\n",
    ],
)
def test_documents_with_nothing_in_them(text: str) -> None:
    """A template that ends in `---`, for one, is one document."""
    assert read(text) == read("address: h.example")


def test_ties_are_the_hub_first_then_by_host() -> None:
    """Equal priorities have one order, whatever the order in the file."""
    config = read(
        "address: z.example\nofflinePriority: 5\n"
        "registries: [{address: b.example, priority: 5}, {address: a.example, priority: 5}]"
    )
    assert [one.host for one in config.registries] == ["z.example", "a.example", "b.example"]


def test_anchors_and_merges_are_known() -> None:
    """A mapping may be given once and merged; its own keys win."""
    config = read(
        "address: h.example\nregistries:\n- &a {address: a.example, priority: 7}\n"
        "- {<<: *a, address: b.example}\n"
    )
    assert [(one.host, one.priority) for one in config.registries[1:]] == [
        ("a.example", 7),
        ("b.example", 7),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "address: h.example\t# the hub\nexclude: [a, b]\n",
        "address:\th.example\t\nexclude:\t[a,\tb]\t# both\n",
        "address: 'h.example'\t \t# the hub\nexclude: [\n\ta,\n\tb\t\n\t]\n",
        "---\t# begin\naddress\t: h.example\nexclude:\t# both\n- a\t# a\n- b\n",
        "{\taddress:\th.example,\n\texclude: [a\t,b]\t}\n",
    ],
)
def test_tabs_between_tokens_are_spaces(text: str) -> None:
    """YAML 1.2 §6.2, as libyaml and the Go shim's reader have it."""
    config = read(text)
    assert (config.hub.host, config.exclude) == ("h.example", ("a", "b"))
    assert config.notices == ()


def test_statistics_are_off_with_a_zero_interval() -> None:
    """`statsLogInterval: 0` says the same as `disableStats: true`."""
    assert read("address: h.example\ncache: {statsLogInterval: 0}").cache.disable_stats
    assert read("address: h.example\ncache: {disableStats: yes}").cache.disable_stats


def test_masked_shows_what_is_in_force_and_no_password() -> None:
    """The masked form is plain data, has every key, and reads back as the same settings."""
    config = read(GO_SHIM_FILE.replace("-50", "50"))
    shown = masked(config)
    text = yaml.safe_dump(shown)
    assert json.loads(json.dumps(shown)) == shown
    assert "pass" not in text.replace("bypass", "")
    assert shown["auth"] == "admin:***"
    again = read(text)
    assert masked(again) == shown
    assert [one.mirror for one in again.registries] == [one.mirror for one in config.registries]


def test_masked_has_each_key_with_its_own_value() -> None:
    """Every key that counts is in it, and what is said of the hub alone is not said of all."""
    shown = masked(read("address: h.example\nhub: {stallTimeout: 7s}"))
    absent = {"auth", *(key.name for key in TOP_KEYS if key.kind is Kind.OLD)}
    assert list(shown) == [key.name for key in TOP_KEYS if key.name not in absent]
    assert (shown["stallTimeout"], shown["hub"]["stallTimeout"]) == ("30s", "7s")


def test_loads_a_file(tmp_path: Path) -> None:
    """A file is loaded by its path, a byte order mark is no matter."""
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xef\xbb\xbfaddress: h.example\n")
    config = load(path)
    assert config.source == str(path)
    assert [file.path for file in config.files] == [str(path)]


def test_a_readable_file_with_a_login_is_noticed(tmp_path: Path) -> None:
    """Others can read the file and it has a login: one notice. No login, or 0600: none."""
    path = tmp_path / "c.yaml"
    path.write_text("address: h.example\nauth: u:p\n")
    path.chmod(0o640)
    told = "it holds a login and others can read it (mode 0640): chmod 600"
    assert load(path).notices == (told,)
    path.chmod(0o600)
    assert load(path).notices == ()
    path.write_text("address: h.example\n")
    path.chmod(0o644)
    assert load(path).notices == ()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "no such file"),
        (b"a: \xff\xfe", "not UTF-8"),
        (b"#" * 5_000_000, "larger than 4 MiB"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes | None, reason: str) -> None:
    """A missing, binary or endless file is one clear fault."""
    path = tmp_path / "c.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=reason):
        load(path)


def test_a_directory_is_no_configuration(tmp_path: Path) -> None:
    """A directory is named as one."""
    with pytest.raises(ConfigError, match="is a directory"):
        load(tmp_path)
