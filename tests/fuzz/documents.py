"""The cluster's documents over a node's file: whatever they say, they only tighten."""

from __future__ import annotations

import re

from shimcore.cluster.documents import ClusterPart, Document, Kind
from shimcore.config import Config, Fallback
from shimcore.config.durations import parse_duration
from shimcore.config.load import attempt
from shimcore.config.model import KubernetesSource
from shimcore.config.values import place_of
from shimcore.errors import ConfigError

PATH = "/nonexistent/config.yaml"
PASSWORD = "file-pass-zx81"
SECRETS = "secrets-pass-zx81"
_COMMON = f"""
address: https://hub.example:5000
auth: admin:{PASSWORD}
exclude: [own/*]
registries:
- {{address: r.example, auth: 'u:{PASSWORD}', domains: [docker.io, '*.example']}}
"""
PLAIN = _COMMON + "kubernetes: {enabled: true}"
STRICT = f"""{_COMMON}
kubernetes: {{enabled: true, hosts: ['*.example', 'hub.example:*']}}
fallback: deny
hub: {{insecureSkipVerify: true}}
"""
FIXED_SECRET = (
    f"sealos: {{address: 'https://hub.example:5000', auth: {{username: a, password: {SECRETS}}}}}"
)
_ANY_SECRET = re.compile(f"{PASSWORD}|{SECRETS}")


def documents(data: bytes) -> None:
    """Any two documents are merged or refused, and nothing that they may not do is done."""
    flags, _, rest = data.partition(b"\n")
    config_map, _, secret = rest.decode("utf-8", "surrogateescape").partition("\0")
    file = STRICT if b"s" in flags else PLAIN
    check(file, config_map, FIXED_SECRET if b"f" in flags else secret)


def check(file: str, config_map: str, secret: str) -> Config | None:
    """The merged configuration, with the rules seen to hold; None where it was refused."""
    kept = {PATH: file.encode()}.get
    source = KubernetesSource(enabled=True)
    own = attempt(PATH, None, kept).outcome
    assert isinstance(own, Config)
    texts = {Kind.CONFIG_MAP: config_map, Kind.SECRET: secret}
    part = ClusterPart(source, {kind: Document(text, "1") for kind, text in texts.items()})
    merged = attempt(PATH, part, kept).outcome
    if isinstance(merged, ConfigError):
        assert 0 < len(merged.faults) <= 102
        if not _ANY_SECRET.search(config_map + secret.replace(FIXED_SECRET, "")):
            assert not _ANY_SECRET.search(str(merged))
        return None
    _tightened(own, merged)
    _logins_stayed(own, merged, config_map + secret)
    return merged


def _tightened(own: Config, merged: Config) -> None:
    kept = ("shim_socket", "runtime_socket", "admin_socket", "state_dir", "metrics", "names")
    for name in (*kept, "sandbox_image", "kubernetes"):
        assert getattr(own, name) == getattr(merged, name)
    assert merged.exclude[: len(own.exclude)] == own.exclude
    if own.fallback is Fallback.DENY:
        assert merged.fallback is Fallback.DENY
        assert merged.exclude == own.exclude
    assert 1 <= merged.timeout_s <= parse_duration("8760h")
    assert merged.reload_interval_s >= 0.1
    assert 0.1 <= merged.probe_timeout_s <= 300
    before = {place_of(one.scheme, one.host): one for one in own.registries}
    for registry in merged.registries:
        place = place_of(registry.scheme, registry.host)
        if place not in before:
            host = place.partition("://")[2]
            assert own.kubernetes.hosts.first((host,)) is not None
            assert not registry.insecure_skip_verify
            continue
        assert registry.insecure_skip_verify <= before[place].insecure_skip_verify
        domains = before[place].mirror.domains
        if domains is not None:
            assert registry.mirror.domains is not None
            assert all(
                one in domains or one.endswith(".example") for one in registry.mirror.domains
            )


def _logins_stayed(own: Config, merged: Config, said: str) -> None:
    places = {place_of(one.scheme, one.host) for one in own.registries}
    hub = place_of(own.hub.scheme, own.hub.host)
    for registry in merged.registries:
        place = place_of(registry.scheme, registry.host)
        files = (registry.password_file, registry.docker_config, registry.ca_file)
        assert files == (None, None, None)
        password = registry.credentials.password if registry.credentials else ""
        if password == PASSWORD and PASSWORD not in said:
            assert place in places
        if password == SECRETS and said.count(SECRETS) == 1:
            assert place == hub
