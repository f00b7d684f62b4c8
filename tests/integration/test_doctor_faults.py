"""Faults injected one at a time: what `doctor` calls each of them, and how it is mended."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from shimcore.client.admin import Condition
from shimcore.doctor import Finding, Result, cluster, examine
from shimcore.doctor.run import Check
from shimcore.runtime.errors import StatusCode
from tests.support.doctor import CONTAINERD, KUBELET, SHIM, USERS, World, world
from tests.support.mending import read_mend
from tests.support.registry_http import Response
from tests.support.scripted_registry import ScriptedRegistry
from tests.support.tls import PrivateCA

DOCUMENT = Path(__file__).parents[2] / "docs" / "troubleshooting.md"

FAIL, WARN = Result.FAIL, Result.WARN
PULL = "ImageService/PullImage"


@dataclass(frozen=True)
class Fault:
    """A fault: how it is made, the check that names it, and words of its detail and its mend."""

    name: str
    make: Callable[[World], object]
    check: str
    words: str
    mend: str
    result: Result = FAIL
    pull: str = ""
    keys: dict[str, object] = field(default_factory=dict)


def _file(path: str, text: str) -> Callable[[World], None]:
    return lambda node: node.put(path, text)


def _pull_fails(text: str) -> Callable[[World], None]:
    return lambda node: node.fails(PULL, StatusCode.UNKNOWN, text)


def _nothing(_: World) -> None:
    """The keys of the configuration are the fault."""


def _bare(node: World) -> None:
    for method in ("Version", "Status"):
        node.fails(f"RuntimeService/{method}", StatusCode.UNIMPLEMENTED, "unknown service")


def _state(condition: Condition, why: str) -> Callable[[World], None]:
    def make(node: World) -> None:
        node.condition, node.detail = condition, (why,)
        node.facts |= {"serving": False, "starting": why}

    return make


def _breaker(node: World) -> None:
    told = {"address": node.hub.address, "usable": False, "state": "down", "reason": "proxy"}
    node.facts["registries"] = [told]


def _second(node: World) -> None:
    node.shim_socket, node.status_error = "/nowhere", "admin socket: permission denied"


def _clock(node: World) -> None:
    node.node()
    year = time.time() + 365 * 86_400
    os.utime(node.file, (year, year))


def _unreadable(node: World) -> None:
    node.file.mkdir()


def _no_pause(node: World) -> None:
    node.keys |= {"sandboxImage": "registry.k8s.io/pause:9.9", "fallback": "deny"}


def _named(*hosts_toml: str, version: str = "1.6.20") -> Callable[[World], None]:
    def make(node: World) -> None:
        node.name("containerd", version)
        node.keys["address"] = "http://sealos.hub:5000"
        if hosts_toml:
            config = 'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\n'
            node.put("/etc/containerd/config.toml", f'{config}config_path = "/etc/certs.d"\n')
            node.put("/etc/certs.d/sealos.hub:5000/hosts.toml", hosts_toml[0])

    return make


SOCKET_UNIT = "/etc/systemd/system/image-cri-shim.socket"
WAY = "containerd's way to sealos.hub:5000"

WIRE = "image-cri-shim install-service --wire-runtime --now -f /"

REGISTRY = "registry "

FAULTS = (
    Fault(
        "hub down", _nothing, REGISTRY, "refused", "curl", keys={"address": "http://127.0.0.1:9"}
    ),
    Fault(
        "DNS",
        _nothing,
        REGISTRY,
        "",
        "/etc/hosts",
        keys={"address": "http://no.such.hub.invalid:5"},
    ),
    Fault("wrong password", _nothing, REGISTRY, "", "right login", keys={"auth": "admin:wrong"}),
    Fault("no login", _nothing, REGISTRY, "", "write a login", keys={"auth": None}),
    Fault("breaker open", _breaker, REGISTRY, "to the shim it is down", "systemctl restart"),
    Fault("config_path unset", _named(), WAY, "config_path is not set", WIRE),
    Fault("config_path taken as one", _named(version="2.4.2"), WAY, "one directory", WIRE),
    Fault("hosts.toml refused", _named('server = "x"\n'), WAY, "refuses", WIRE),
    Fault("hosts.toml elsewhere", _named('[host."https://b"]\n'), WAY, "https", WIRE),
    Fault(
        "kubelet rewired",
        _file(KUBELET, f"containerRuntimeEndpoint: unix://{CONTAINERD}\n"),
        "kubelet",
        CONTAINERD,
        "--wire-kubelet",
    ),
    Fault(
        "kubelet's flag wins",
        lambda node: node.kubelet(f"--container-runtime-endpoint={CONTAINERD}"),
        "kubelet",
        "running kubelet",
        "--wire-kubelet",
    ),
    Fault(
        "kubelet's images alone",
        lambda node: node.kubelet(
            f"--container-runtime-endpoint={CONTAINERD}", f"--image-service-endpoint=unix://{SHIM}"
        ),
        "kubelet",
        "nobody brings the pause image",
        "--wire-kubelet",
        WARN,
    ),
    Fault(
        "crictl elsewhere",
        _file("/etc/crictl.yaml", f"runtime-endpoint: unix://{CONTAINERD}\n"),
        "crictl",
        CONTAINERD,
        "--wire-kubelet",
        WARN,
    ),
    Fault(
        "socket missing",
        _state(Condition.NOT_RUNNING, "nothing listens at /x"),
        "socket",
        "nothing listens",
        "systemctl start",
    ),
    Fault(
        "bypass",
        _state(Condition.BYPASS, "does not start"),
        "socket",
        "does not start",
        "journalctl",
    ),
    Fault(
        "waiting",
        _state(Condition.STARTING, "waiting for /x"),
        "socket",
        "waiting for /x",
        "the runtime",
    ),
    Fault("admin socket refused", _second, "socket", "permission denied", "root"),
    Fault(
        "command gone",
        lambda node: (node.root.directory / "usr/bin/shim").unlink(),
        "units",
        "/usr/bin/shim",
        "reinstall",
    ),
    Fault(
        "systemd's socket at another path than `shim`",
        _file(
            "/etc/systemd/system/image-cri-shim.socket", "[Socket]\nListenStream=/run/old.sock\n"
        ),
        "units",
        "listens at /run/old.sock",
        "image-cri-shim install-service --now",
        keys={"shim": "/run/new.sock"},
    ),
    Fault(
        "runtime down",
        _nothing,
        "runtime",
        "does not answer",
        "systemctl start containerd",
        keys={"cri": "/nowhere/r.sock"},
    ),
    Fault("runtime without CRI", _bare, "runtime", "has no CRI", "disabled_plugins"),
    Fault(
        "pause image missing", _no_pause, "pause image", "no registry has it", "skopeo copy --all"
    ),
    Fault(
        "config typo",
        lambda node: setattr(node, "text", "adress: http://h\n"),
        "configuration",
        "adress",
        "config check",
    ),
    Fault("unreadable file", _unreadable, "configuration", "", "config check"),
    Fault("clock", _clock, "clock", "365 days behind", "date --utc --set"),
    Fault(
        "ConfigMap bad",
        lambda node: node.kubernetes("watching", error="key x"),
        "cluster source",
        "key x",
        "mend the ConfigMap",
    ),
    Fault(
        "API server away",
        lambda node: node.kubernetes("away", "no route"),
        "cluster source",
        "no route",
        "API server",
        WARN,
    ),
    Fault(
        "watch forbidden",
        lambda node: node.kubernetes("refused", "403"),
        "cluster source",
        "403",
        "create role image-cri-shim",
    ),
    Fault(
        "exclude",
        _nothing,
        "candidates of web:v1",
        "exclude catches it",
        "exclude",
        WARN,
        "web:v1",
        {"exclude": ["docker.io/library/*"]},
    ),
    Fault(
        "domains",
        _nothing,
        "candidates of web:v1",
        "no registry serves it",
        "domains",
        WARN,
        "web:v1",
        {"hub": {"domains": ["quay.io"]}},
    ),
    Fault(
        "deny",
        _nothing,
        "candidates of web:v1",
        "fallback: deny",
        "domains",
        FAIL,
        "web:v1",
        {"hub": {"domains": ["quay.io"]}, "fallback": "deny"},
    ),
    Fault(
        "blob missing",
        _pull_fails("blob sha256:1: not found"),
        "pull web:v1",
        "not found",
        "push the image anew",
        FAIL,
        "web:v1",
    ),
    Fault(
        "wrong platform",
        _pull_fails("no match for platform in manifest"),
        "pull web:v1",
        "platform",
        "this node's platform",
        FAIL,
        "web:v1",
    ),
    Fault(
        "disk full",
        _pull_fails("write: no space left on device"),
        "pull web:v1",
        "no space",
        "crictl rmi --prune",
        FAIL,
        "web:v1",
    ),
    Fault(
        "https for http at the runtime",
        _pull_fails("http: server gave HTTP response to HTTPS"),
        "pull web:v1",
        "HTTPS",
        "way to the registry",
        FAIL,
        "web:v1",
    ),
)


def _finding(found: list[Finding], check: str) -> Finding:
    for finding in found:
        if finding.check.startswith(check) and finding.result is not Result.PASS:
            return finding
    raise AssertionError((check, found))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_a_fault_is_named_with_its_mend(tmp_path: Path, fault: Fault) -> None:
    """One fault at a time: the check that names it, and a word of its mend."""
    async with world(tmp_path) as node:
        node.keys |= fault.keys
        node.keys = {key: value for key, value in node.keys.items() if value is not None}
        fault.make(node)
        found = await node.examined(fault.pull)
    finding = _finding(found, fault.check)
    assert finding.result is fault.result, finding
    assert fault.words in finding.detail
    assert fault.mend in finding.mend
    if command := read_mend(finding.mend).command:
        subprocess.run(["sh", "-n", "-c", command], check=True)
    assert "s3cret" not in str(found)
    assert "broke" not in str(found), found


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_in_the_document(fault: Fault) -> None:
    """docs/troubleshooting.md says what names it."""
    rows = [line.split(" | ") for line in DOCUMENT.read_text().splitlines()]
    (named,) = [row[1] for row in rows if row[0] == f"| {fault.name}"]
    assert named.startswith(str(fault.result))
    assert any(fault.check.startswith(check) for check in named.split("`")[1::2])


@pytest.mark.parametrize(
    "how", ["unknown CA", "expired", "not yet valid", "https for http", "http for https"]
)
async def test_tls_faults(tmp_path: Path, how: str) -> None:
    """What is wrong with a registry's TLS, and whether the scheme is."""
    authority = PrivateCA(tmp_path)
    days = {"expired": (-365, -400), "not yet valid": (400, 365)}
    days_left, begins_in = days.get(how, (90, -60))
    tls = authority.issue("127.0.0.1", days_left=days_left, begins_in=begins_in).context()
    async with world(tmp_path) as node, ScriptedRegistry(users=USERS, auth="basic", tls=tls) as hub:
        node.keys["address"] = hub.address
        if how in days:
            node.keys["hub"] = {"caFile": str(authority.ca_file)}
        elif how == "https for http":
            node.keys["address"] = node.hub.address.replace("http://", "https://")
        elif how == "http for https":
            node.keys["address"] = hub.address.replace("https://", "http://")
        finding = _finding(await node.examined(), REGISTRY)
    mend = {
        "unknown CA": "name it (caFile: FILE); then ",
        "expired": "renew its certificate",
        "not yet valid": "date --utc --set",
        "https for http": f"write {node.hub.address} as its address; then ",
        "http for https": f"write {hub.address} as its address; then ",
    }
    assert finding.result is FAIL
    assert mend[how] in finding.mend


@pytest.mark.parametrize(
    ("days", "words", "mend"),
    [
        ((-365.0, -400.0), "has expired", "renew that authority"),
        ((400.0, 365.0), "is not yet valid", "date --utc --set"),
    ],
)
async def test_an_authority_that_does_not_hold_today(
    tmp_path: Path, days: tuple[float, float], words: str, mend: str
) -> None:
    """It is not the registry's own certificate that is renewed then."""
    authority = PrivateCA(tmp_path, days_left=days[0], begins_in=days[1])
    tls = authority.issue("127.0.0.1").context()
    async with world(tmp_path) as node, ScriptedRegistry(users=USERS, auth="basic", tls=tls) as hub:
        node.keys |= {"address": hub.address, "hub": {"caFile": str(authority.ca_file)}}
        finding = _finding(await node.examined(), REGISTRY)
    assert f"an authority above the certificate of {hub.address} {words}" in finding.detail
    assert finding.mend.startswith(mend)


async def test_a_proxy_variable_that_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the variable that is mended, and not the registry that is started."""
    monkeypatch.setenv("http_proxy", "ftp://proxy.invalid:1")
    async with world(tmp_path) as node:
        node.keys["address"] = "http://hub.invalid:5000"
        finding = _finding(await node.examined(), REGISTRY)
    assert finding.mend.startswith("mend http_proxy of this shell")


async def test_a_server_that_is_no_registry(tmp_path: Path) -> None:
    """It runs, and is not to be started."""
    async with world(tmp_path) as node:
        node.hub.faults.respond.append((lambda _: True, Response(404)))
        finding = _finding(await node.examined(), REGISTRY)
    assert "not a container registry" in finding.detail
    own = f"in {node.file}, write the registry's own address and port; then "
    assert own in finding.mend


async def test_a_docker_config_without_the_login(tmp_path: Path) -> None:
    """Its file is named, which gets the login in a form of its own; a warning does not say that
    it works."""
    file = tmp_path / "config.json"
    file.touch(0o600)
    file.write_text("{}")
    async with world(tmp_path) as node:
        del node.keys["auth"]
        node.keys["hub"] = {"dockerConfig": str(file)}
        found = await node.examined()
        put = f"put the login of {node.hub.host} under auths in {file} (docker login"
    assert _finding(found, REGISTRY).mend.startswith(put)
    assert _finding(found, "configuration").mend.startswith(put)


async def test_a_password_file_beside_a_user(tmp_path: Path) -> None:
    """It gets the password alone."""
    file = tmp_path / "password"
    file.touch(0o600)
    file.write_text("wrong\n")
    async with world(tmp_path) as node:
        node.keys |= {"auth": "admin", "hub": {"passwordFile": str(file)}}
        finding = _finding(await node.examined(), REGISTRY)
    assert finding.mend.startswith(f"write the password of admin alone into {file}")


async def test_a_check_that_breaks_or_hangs_fails_alone(tmp_path: Path) -> None:
    """The others go on."""

    async def breaks(_: object) -> list[Finding]:
        raise TypeError("a defect")

    async def hangs(_: object) -> list[Finding]:
        await asyncio.Event().wait()
        return []

    checks = (Check("broken", breaks), Check("hangs", hangs), Check("cluster", cluster.look))
    async with world(tmp_path) as node:
        found = await examine(node.node(), checks=checks, bound_s=0.2)
    assert [(one.check, one.result) for one in found] == [
        ("broken", FAIL),
        ("hangs", FAIL),
        ("cluster source", Result.PASS),
    ]
