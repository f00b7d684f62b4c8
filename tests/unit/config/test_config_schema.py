"""The JSON schema: up to date, and of one mind with the reader."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from shimcore.config import parse_config
from shimcore.config.keys import TOP_KEYS
from shimcore.config.schema import schema
from shimcore.errors import ConfigError

COMMITTED = Path(__file__).parents[3] / "contrib" / "image-cri-shim.schema.json"
VALIDATOR = jsonschema.Draft7Validator(schema())

GOOD = [
    "address: http://sealos.hub:5000",
    # As the Go shim and its templates write it.
    """
shim: /var/run/image-cri-shim.sock
cri: ""
address: http://sealos.hub:5000
force: true
debug: false
image: /var/lib/image-cri-shim
version: v1
timeout: 15m
auth: admin:passw0rd
reloadInterval: 15s
offlinePriority: 1000
registries: []
cache: {imageCacheSize: 1024, imageCacheTTL: 30m, domainCacheTTL: 10m, disableStats: false}
""",
    """
address: hub.example
auth: 0123:456
timeout: 0
registries:
  - {address: quay.io, priority: 0, auth: "robot:pa:ss", domains: [quay.io, "*.example.com"]}
  - {address: "[::1]:5000", path: "{domain}/{path}", insecureSkipVerify: yes}
hub: {caFile: null, domains: ["*"]}
exclude: ["registry.k8s.io/*"]
fallback: deny
names: original
probeTimeout: 1.5s
negativeCacheTTL: 0s
metrics: 9100
kubernetes: {enabled: true, namespace: kube-system, name: image-cri-shim}
cache:
""",
    "address: a.example\nmetrics: 127.0.0.1:9100\nshim: unix:///run/x.sock\ncri: unix:/run/c.sock",
]
BAD = [
    "debug: true",
    "- address",
    "address: a.example\nadress: b",
    "address: user:pass@a.example",
    "address: a.example\ntimeout: 15",
    "address: a.example\ntimeout: soon",
    "address: a.example\nforce: maybe",
    "address: a.example\nregistries: {address: b.example}",
    "address: a.example\nregistries: [{address: b.example, prio: 1}]",
    "address: a.example\nregistries: [{address: b.example, priority: high}]",
    "address: a.example\nregistries: [{address: b.example, domains: []}]",
    "address: a.example\nfallback: no-way",
    "address: a.example\nnames: [both]",
    "address: a.example\nshim: relative.sock",
    "address: a.example\ncache: {imageCacheSize: lots}",
    "address: a.example\nhub: {path: no-placeholder}",
    "address: a.example\nkubernetes: {name: Not_A_Name}",
    "address: a.example\nauth: {username: a, password: b}",
]


def is_read(text: str) -> bool:
    try:
        parse_config(text, "/x/c.yaml")
    except ConfigError:
        return False
    return True


def is_valid(text: str) -> bool:
    return bool(VALIDATOR.is_valid(yaml.safe_load(text)))


def test_the_committed_schema_is_up_to_date() -> None:
    """`image-cri-shim config schema > contrib/image-cri-shim.schema.json` makes it anew."""
    assert json.loads(COMMITTED.read_text(encoding="utf-8")) == schema()


def test_it_is_a_schema() -> None:
    """By the rules of draft-07."""
    jsonschema.Draft7Validator.check_schema(schema())


@pytest.mark.parametrize("text", GOOD)
def test_good_files(text: str) -> None:
    """What the reader takes, the schema takes."""
    assert is_read(text)
    assert is_valid(text), next(iter(VALIDATOR.iter_errors(yaml.safe_load(text)))).message


@pytest.mark.parametrize("text", BAD)
def test_bad_files(text: str) -> None:
    """What the schema can see is wrong, the reader refuses, and the other way round."""
    assert not is_read(text)
    assert not is_valid(text)


def test_every_key_is_there() -> None:
    """Each with its meaning; every default is valid."""
    properties = schema()["properties"]
    assert list(properties) == [key.name for key in TOP_KEYS]
    for name, one in _every_property(schema()):
        assert one["description"], name
        if "default" in one:
            assert jsonschema.Draft7Validator(one).is_valid(one["default"]), name


def test_no_secret_in_it() -> None:
    """No example of a login that somebody could copy, or that was somebody's."""
    assert not re.search(r"passw0rd|examples", json.dumps(schema()))
    assert all("default" not in one for name, one in _every_property(schema()) if name == "auth")


def _every_property(tree: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for name, one in tree.get("properties", {}).items():
        found.append((name, one))
        found += _every_property(one)
        found += _every_property(one.get("items", {}))
    return found
