"""What is wrong with a configuration: every fault, each at its key, none with a secret."""

from __future__ import annotations

import subprocess
import sys
import traceback

import pytest

from shimcore.config import parse_config
from shimcore.config.keys import TOP_KEYS, Key
from shimcore.errors import ConfigError

# What would send a login where it is not written for, and what the Go shim has no keys for.
SAME_REGISTRY = [
    ("{address: 'http://H.example', auth: 'u:p'}", "registries[0].address"),
    ("{address: a.b, auth: 'u:p'}, {address: 'http://a.b'}", "registries[1].address"),
    (
        "{address: a.b, auth: 'u:p'}, {address: a.b, insecureSkipVerify: yes}",
        "registries[1].address",
    ),
    ("{address: a.b, insecureSkipVerify: yes}, {address: a.b}", "registries[1].address"),
    ("{address: a.b, path: 'x/{path}'}, {address: a.b}", "registries[1].address"),
    ("{address: h.example, domains: [quay.io]}", "registries[0].address"),
]


def faults(text: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "test.yaml")
    return {fault.path: fault.reason for fault in caught.value.faults}


def fault_at(path: str, line: str) -> str:
    found = faults(f"address: h.example\n{line}\n")
    assert list(found) == [path]
    return found[path]


def test_all_faults_come_at_once() -> None:
    """One reading shows every fault, each with its dotted path."""
    found = faults(
        "adress: h.example\nforce: maybe\ntimeout: 15\ncache: {imageCacheSiz: 1, imageCacheTTL: x}"
        "\nregistries:\n- {address: a.example, priority: high}\n- {address: 'http://u:p@b.example'}\n"
    )
    assert set(found) == {
        "adress",
        "force",
        "timeout",
        "cache.imageCacheSiz",
        "cache.imageCacheTTL",
        "registries[0].priority",
        "registries[1].address",
        "address",
    }
    assert found["adress"] == "unknown key; did you mean address?"
    assert "did you mean imageCacheSize?" in found["cache.imageCacheSiz"]


@pytest.mark.parametrize(
    ("line", "path", "reason"),
    [
        ("Timeout: 1m", "Timeout", "did you mean timeout?"),
        ("qqqq: 1", "qqqq", "unknown key"),
        ("'a b: c': 1", "(a key that is not a plain word)", "unknown key"),
        ("debug: true\ndebug: false", "debug", "given twice, on lines 2 and 3"),
        ("registries: {address: a.b}", "registries", "a list expected, not keys"),
        ("registries: [a.b]", "registries[0]", "keys and values expected, not text"),
        ("cache: []", "cache", "keys and values expected, not a list"),
        ("debug: [true]", "debug", "text expected, not a list"),
        ("debug: 1", "debug", "true or false"),
        ("timeout: -1s", "timeout", "negative"),
        ("timeout: 5 minutes", "timeout", "numbers with units"),
        ("probeTimeout: 0", "probeTimeout", "more than 0"),
        ("offlinePriority: 1.5", "offlinePriority", "whole number"),
        ("shim: run/x.sock", "shim", "absolute path"),
        ("shim: unix://run/x.sock", "shim", "absolute path"),
        ("cri: tcp://127.0.0.1:1", "cri", "unix sockets"),
        ("shim: /" + "x" * 120, "shim", "107 bytes"),
        ("shim: /run/a\ncri: unix:///run/a", "cri", "the same"),
        ("shim: /run/a\nadmin: /run/a", "admin", "a path of its own"),
        ("fallback: maybe", "fallback", "one of allow, deny"),
        ("names: all", "names", "one of original, both, registry"),
        ("metrics: localhost", "metrics", "host:port"),
        ("metrics: ':99999'", "metrics", "a port out of range"),
        ("metrics: '::1:99'", "metrics", "host:port"),
        ("metrics: 'node..local:9464'", "metrics", "no host has this name"),
        ("metrics: '.local:9464'", "metrics", "no host has this name"),
        ("metrics: " + "x" * 64 + ":9464", "metrics", "no host has this name"),
        ("metrics: '[:::]:9464'", "metrics", "no host has this name"),
        ("exclude: nginx", "exclude", "a list expected"),
        ("exclude: [{}]", "exclude[0]", "text expected"),
        ("hub: {domains: []}", "hub.domains", "empty"),
        ("kubernetes: {hosts: []}", "kubernetes.hosts", "empty"),
        ("hub: {domains: [docker]}", "hub.domains[0]", "domain expected"),
        ("hub: {path: proxy}", "hub.path", "{path} is missing"),
        ("hub: {path: '{image}'}", "hub.path", "{image}"),
        ("hub: {address: x.y}", "hub.address", "unknown key"),
        ("auth: justauser", "auth", "no colon"),
        ("registries: [{address: a.b, auth: x}]", "registries[0].auth", "no colon"),
        *(
            (f"registries: [{entries}]", path, "same registry as in")
            for entries, path in SAME_REGISTRY
        ),
        ("x: &a [*a]", "x", "unknown key|contains itself"),
        ("debug: !yes x", "debug", "tags"),
        ("? [a]\n: b", "", "a key has to be text"),
        ("<<: [1]", "", "merges mappings"),
        ('stateDir: "/a\\0b"', "stateDir", "control characters"),
        ('stateDir: "\\ud800"', "stateDir", "surrogate"),
    ],
)
def test_a_fault_is_named_at_its_key(line: str, path: str, reason: str) -> None:
    """Each wrong value, key or form is a fault at its own path."""
    if "|" in reason:
        assert path in faults(f"address: h.example\n{line}\n")
        return
    assert reason in fault_at(path, line)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("http://h.example/project", "no path"),
        ("http://h.example/v2/x", "no path"),
        ("ftp://h.example", "http:// or https://"),
        ("http://", "no image name"),
        ("http://a_b:5000", "no image name"),
        ("http://[fe80::1%25eth0]:5000", "no image name"),
        ("http://h.example:port", "not an address"),
        ("http://h.example:99999", "a port out of range"),
        ("http://h.example:0", "a port out of range"),
        ("http://h.example:05000", "a port out of range"),
        ("http://[::1]:65536", "a port out of range"),
        ("http://xn--a.example", "no host has this name"),
        ("http://a.xn--.example:5000", "no host has this name"),
        ("http://999.1.1.1", "no host has this name"),
        ("http://[::::]:5000", "expected"),
        ("http://" + "a" * 64 + ".example", "no host has this name"),
        ("http://" + "a." * 130 + "example", "no host has this name"),
        ("http://[::1", "not an address"),
        ("http://h.example?x=y", "no query"),
        ("http://\u00fc.example", "no image name"),
        ("http://admin:s3cret@h.example", "login does not belong"),
        ("admin:s3cret", "not an address"),
    ],
)
def test_a_wrong_address_is_not_repeated(address: str, reason: str) -> None:
    """What is no address is a fault that does not print it: it may be a login."""
    found = faults(f"address: '{address}'")
    assert reason in found["address"]
    assert "s3cret" not in str(found)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [", "line 1, column"),
        ("a: 1\n b: 2", "line 2, column 3"),
        ("auth: *s3cret", "found undefined alias"),
        (
            'auth: "s3cret\\q"',
            "line 1, column 15: while scanning a double-quoted scalar, found unknown",
        ),
        ("auth: %s3cret", "cannot start any token"),
        ("auth: &s3cret&", "expected alphabetic or numeric character"),
        ("auth: !s3cret!x y", "undefined tag handle"),
        ("a: 1\n---\nb: 2", "line 3, column 1: expected a single document"),
        (
            "a:\n\tb: 1",
            "line 2, column 1: while scanning for the next token, found character (a tab)",
        ),
        ("a: 1\n \tb: 1", "line 2, column 2: while scanning for the next token"),
        ("\t# s3cret", "(a tab)"),
        ("a: \x01", "character that YAML does not allow"),
        ('a: "\\UFFFFFFFF"', "names no character"),
        ("[" * 3000, "nested too deeply"),
        ("{a: " * 250 + "1" + "}" * 250, "unknown key|nested too deeply"),
        ("s3cret", "keys and values expected"),
        ("", "is required"),
        ("# nothing", "is required"),
    ],
)
def test_what_is_not_a_yaml_mapping_is_one_line(text: str, reason: str) -> None:
    """Broken YAML is named with line and column, in one line, with none of its text."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "test.yaml")
    message = str(caught.value)
    assert any(part in message for part in reason.split("|"))
    assert "\n" not in message
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_every_key_has_a_meaning_and_a_place() -> None:
    """The table of keys is complete: a doc for each, keys inside the mappings, no name twice."""

    def check(keys: tuple[Key, ...]) -> None:
        names = [key.name for key in keys]
        assert len(names) == len(set(names))
        for key in keys:
            assert key.doc
            check(key.keys)

    check(TOP_KEYS)


def test_importing_the_configuration_is_cheap() -> None:
    """No HTTP, gRPC or TLS library comes in with it."""
    code = (
        "import sys, shimcore.config;"
        "print([m for m in ('httpx', 'grpc', 'ssl', 'asyncio', 'google') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
