"""`check-registry` as operators and scripts run it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.cli_support import AUTH, USERS, Ran, run, run_on_terminal, write_config
from tests.support.scripted_registry import ScriptedRegistry
from tests.support.tls import PrivateCA

KEYS = ["address", "ok", "reachable", "auth_scheme", "login", "tls", "elapsed_ms", "detail"]


async def checked(config: str, *more: str) -> Ran:
    return await run("-f", config, "check-registry", *more)


async def test_all_well(tmp_path: Path) -> None:
    """Every configured registry, best priority first; the JSON keys are fixed; status 0."""
    ca = PrivateCA(tmp_path)
    tls = ca.issue("127.0.0.1", days_left=90.5).context()
    async with (
        ScriptedRegistry(users=USERS, auth="bearer", tls=tls) as hub,
        ScriptedRegistry() as plain,
    ):
        config = write_config(
            tmp_path,
            address=hub.address,
            auth=AUTH,
            hub={"caFile": str(ca.ca_file)},
            registries=[{"address": plain.address}],
        )
        ran = await checked(config, "-o", "json")
    assert ran.status == 0
    assert ran.err == ""
    first, second = json.loads(ran.out)
    assert list(first) == list(second) == KEYS
    assert first["address"] == hub.address
    assert (first["ok"], first["reachable"], first["auth_scheme"]) == (True, True, "bearer")
    assert first["login"] == "accepted"
    assert first["tls"]["version"] == "TLSv1.3"
    assert first["tls"]["days_left"] == 90
    assert "Demo CA" in first["tls"]["issuer"]
    assert (second["address"], second["login"], second["tls"]) == (
        plain.address,
        "not needed",
        None,
    )


async def test_certificate_that_ends_soon(tmp_path: Path) -> None:
    """Under 30 days the registry is still well, and a warning says what to do."""
    ca = PrivateCA(tmp_path)
    tls = ca.issue("127.0.0.1", days_left=12.5).context()
    async with ScriptedRegistry(tls=tls) as hub:
        config = write_config(tmp_path, address=hub.address, hub={"caFile": str(ca.ca_file)})
        ran = await checked(config)
    assert ran.status == 0
    warning = f"warning: {hub.address}: its certificate ends in 12 days; renew it"
    assert ran.error_lines == [f"image-cri-shim: {warning}"]
    assert "ends in 12 days" in ran.out


async def test_expired_certificate(tmp_path: Path) -> None:
    """An expired certificate is shown, and fails."""
    ca = PrivateCA(tmp_path)
    tls = ca.issue("127.0.0.1", days_left=-3).context()
    async with ScriptedRegistry(tls=tls) as hub:
        config = write_config(tmp_path, address=hub.address, hub={"caFile": str(ca.ca_file)})
        ran = await checked(config)
    assert ran.status == 1
    _, line = ran.out.splitlines()
    assert line.split()[:3] == [hub.address, "FAIL", "yes"]
    assert "has expired, issued by O=Example, CN=Demo CA" in line
    assert line.endswith(f"the certificate of {hub.address} has expired; renew it")


async def test_wrong_password(tmp_path: Path) -> None:
    """A refused login fails, in one line without the password."""
    async with ScriptedRegistry(users=USERS, auth="basic") as hub:
        config = write_config(tmp_path, address=hub.address, auth="admin:not-that-one")
        ran = await checked(config)
    assert ran.status == 1
    _, line = ran.out.splitlines()
    assert line.split()[1:5] == ["FAIL", "yes", "basic", "refused"]
    assert "not-that-one" not in ran.out + ran.err


async def test_hub_down_beside_one_that_is_well(tmp_path: Path) -> None:
    """One that is down does not hide the others; any failing is status 1."""
    async with ScriptedRegistry() as well, ScriptedRegistry() as down:
        await down.stop()
        config = write_config(
            tmp_path, address=down.address, registries=[{"address": well.address}]
        )
        ran = await checked(config)
    assert ran.status == 1
    _, first, second = ran.out.splitlines()
    assert first.split()[:3] == [down.address, "FAIL", "no"]
    assert first.endswith("refused the connection; is the registry running on that port?")
    assert second.split()[:3] == [well.address, "ok", "yes"]


async def test_named_ones(tmp_path: Path) -> None:
    """A configured address, however written, is checked with its login; another without any."""
    async with (
        ScriptedRegistry(users=USERS, auth="basic") as hub,
        ScriptedRegistry(users=USERS, auth="basic") as other,
    ):
        config = write_config(tmp_path, address=hub.address, auth=AUTH)
        for name in (hub.host, hub.address, hub.address + "/"):
            ran = await checked(config, name)
            assert ran.status == 0, ran
            assert " accepted " in ran.out
        ran = await checked(config, hub.host, other.address, "-o", "json")
        assert ran.status == 1
        assert [each["login"] for each in json.loads(ran.out)] == ["accepted", "not configured"]
        assert {request.user for request in other.requests} == {""}


async def test_without_a_configuration(tmp_path: Path) -> None:
    """A named address can be checked before there is any configuration."""
    if Path("/etc/image-cri-shim.yaml").exists():
        pytest.skip("this machine has a configuration")
    async with ScriptedRegistry() as hub:
        ran = await run("check-registry", hub.address)
    assert ran.status == 0


async def test_address_that_is_none() -> None:
    """An address with a login in it: one line that does not repeat the login."""
    ran = await run("check-registry", "http://me:my-secret@hub.example")
    assert ran.status == 1
    assert len(ran.error_lines) == 1
    assert "a login does not belong in the address" in ran.err
    assert "my-secret" not in ran.err


@pytest.mark.parametrize("output", ["table", "json"])
async def test_a_bad_address_among_good_ones(tmp_path: Path, output: str) -> None:
    """The good ones are checked, the bad one is said in one line, and the status is 1."""
    async with ScriptedRegistry() as hub:
        config = write_config(tmp_path, address=hub.address)
        ran = await checked(config, "bad host", hub.address, "-o", output)
    assert ran.status == 1
    assert ran.error_lines == ["image-cri-shim: 'bad host': no image name can have this host"]
    assert ran.out.count(hub.address) == 1


@pytest.mark.parametrize(
    "address",
    [
        "http://x/y",
        "hub:99999",
        "hub:0x10",
        "http://[::1",
        "http://[zz]:1",
        "a..b:80",
        "a\nb",
        "a\tb:80",
        "",
        "a" * 3000,
        "\udcff:80",
        "http://xn--a",
    ],
)
async def test_odd_addresses(tmp_path: Path, address: str) -> None:
    """One short line, status 1, no table."""
    ran = await checked(write_config(tmp_path, address="http://hub:5000"), address)
    assert (ran.status, ran.out, len(ran.error_lines)) == (1, "", 1)
    assert len(ran.err) < 300
    assert "unexpected" not in ran.err


@pytest.mark.parametrize("columns", [80, 200])
async def test_terminal(tmp_path: Path, columns: int) -> None:
    """At any width the address, the verdict and the reason are whole; a spinner while it waits."""
    async with ScriptedRegistry(users=USERS, auth="basic", latency_s=0.3) as hub:
        config = write_config(tmp_path, address=hub.address, auth="admin:not-that-one")
        ran = await run_on_terminal(columns, "-f", config, "check-registry")
    assert ran.status == 1
    assert "asking 1 registry" in ran.plain
    assert "\x1b[1;31mFAIL" in ran.out
    lines = ran.plain.split("asking 1 registry")[-1].splitlines()
    assert all(len(line) <= columns for line in lines)
    assert any(hub.address in line and "refused" in line for line in lines)
    assert "the login was refused" in ran.plain
