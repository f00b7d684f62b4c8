"""A kubeconfig is read as client-go reads it, and its logins are sent."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from cryptography.hazmat.primitives import serialization

from shimcore.cluster import login
from shimcore.cluster.errors import ApiUnreachableError
from shimcore.cluster.kubeconfig import Command, Kubeconfig, read_kubeconfig
from shimcore.cluster.login import credential_of, login_of
from tests.support.tls import PrivateCA

API = "client.authentication.k8s.io/v1"


def written(folder: Path, user: dict[str, Any], **cluster: object) -> str:
    """A kubeconfig's path; two more contexts stand in it."""
    tree = {
        "current-context": "mine",
        "clusters": [{"name": "k", "cluster": {"server": "https://k:6443", **cluster}}],
        "users": [{"name": "other", "user": {"token": "other's"}}, {"name": "u", "user": user}],
        "contexts": [
            {"name": "other", "context": {"cluster": "gone", "user": "other"}},
            {"name": "mine", "context": {"cluster": "k", "user": "u"}},
        ],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(tree))
    return str(path)


def read(folder: Path, user: dict[str, Any], **cluster: object) -> Kubeconfig:
    return read_kubeconfig(written(folder, user, **cluster))


def script(folder: Path, text: str) -> Path:
    path = folder / "get-token"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return path


def printing(token: str) -> str:
    return f"echo '{json.dumps({'status': {'token': token}})}'"


async def sent(config: Kubeconfig, *statuses: int) -> list[str]:
    """What Authorization says in each request, where the server answers so."""
    seen: list[str] = []
    answers = iter(statuses)

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("Authorization", ""))
        return httpx.Response(next(answers))

    transport = httpx.MockTransport(answer)
    async with httpx.AsyncClient(
        transport=transport, auth=login_of(config, config.tls())
    ) as client:
        while len(seen) < len(statuses):
            await client.get("https://k/")
    return seen


def test_the_current_context_alone_counts(tmp_path: Path) -> None:
    """Its files are below the kubeconfig's folder; data goes before a file."""
    (tmp_path / "ca.pem").write_bytes(b"from the file")
    (tmp_path / "key.pem").write_bytes(b"the key")
    data = base64.encodebytes(b"from the data" * 20).decode()
    config = read(
        tmp_path,
        {"client-certificate-data": data, "client-certificate": "x", "client-key": "key.pem"},
        **{"certificate-authority": "ca.pem"},
    )
    assert config.server == "https://k:6443"
    assert config.authority == b"from the file"
    assert (config.certificate, config.key) == (b"from the data" * 20, b"the key")
    assert config.token == ""


def test_what_kubectl_takes(tmp_path: Path) -> None:
    """Entries of others that hold nothing, and documents after the first."""
    path = Path(written(tmp_path, {"token": "t"}))
    tree = yaml.safe_load(path.read_text())
    tree["users"] += [{"name": "x", "user": None}, {"name": "y"}]
    tree["clusters"].append({"name": "x", "cluster": None})
    tree["contexts"].append({"name": "x"})
    path.write_text(f"---\n{yaml.safe_dump(tree)}---\nnot: [read")
    assert read_kubeconfig(str(path)).token == "t"


@pytest.mark.parametrize(
    ("cluster", "url"),
    [
        ({"server": "k:6443"}, "http://k:6443"),
        ({"server": "k:6443", "insecure-skip-tls-verify": True}, "https://k:6443"),
        ({"server": "k:6443", "certificate-authority-data": "YQ=="}, "https://k:6443"),
        ({"server": "HTTPS://k"}, "HTTPS://k"),
    ],
)
def test_a_server_without_a_scheme(tmp_path: Path, cluster: dict[str, Any], url: str) -> None:
    """As client-go has it: https where anything of TLS is said."""
    assert read(tmp_path, {}, **cluster).server == url


def test_no_server(tmp_path: Path) -> None:
    """It is said, and not that of another cluster taken."""
    with pytest.raises(ApiUnreachableError, match="its cluster has no server"):
        read(tmp_path, {}, server=None)


@pytest.mark.parametrize(
    ("user", "word"),
    [
        ({"client-key-data": "%%%"}, "its client key: cannot be used: not base64"),
        ({"client-certificate": "gone.pem"}, "its client certificate: no such file"),
        ({"tokenFile": "gone"}, "its token: no such file"),
        ({"auth-provider": {"name": "gcp"}}, "auth-provider is not known here"),
        ({"token": 7}, "not a kubeconfig"),
        ({"exec": "get-token"}, "not a kubeconfig"),
    ],
)
def test_a_fault_is_named(tmp_path: Path, user: dict[str, Any], word: str) -> None:
    """What cannot be used is said at once, and nothing of its content."""
    with pytest.raises(ApiUnreachableError, match=word):
        read(tmp_path, user)


def test_aliases_without_end(tmp_path: Path) -> None:
    """A kubeconfig that holds itself is none."""
    path = tmp_path / "kubeconfig"
    path.write_text("&a {clusters: [*a], contexts: [], current-context: x}")
    with pytest.raises(ApiUnreachableError, match="not a kubeconfig"):
        read_kubeconfig(str(path))


async def test_tokens_and_passwords(tmp_path: Path) -> None:
    """A file goes before a token, and is read for each request; a password is Basic."""
    (tmp_path / "token").write_text("first\n")
    config = read(tmp_path, {"tokenFile": "token", "token": "stale"})
    assert await sent(config, 200) == ["Bearer first"]
    (tmp_path / "token").write_text("second\n")
    assert await sent(config, 200) == ["Bearer second"]
    (tmp_path / "token").unlink()
    with pytest.raises(ApiUnreachableError, match="no such file"):
        await sent(config, 200)
    assert await sent(read(tmp_path, {"token": "t"}), 200) == ["Bearer t"]
    basic = base64.b64encode(b"u:p").decode()
    assert await sent(read(tmp_path, {"username": "u", "password": "p"}), 200) == [f"Basic {basic}"]
    assert await sent(read(tmp_path, {}), 200) == [""]


@pytest.mark.parametrize("token", ["", "two\nlines", "a b", "geh\u00e9im", "nul\0"])
async def test_a_token_that_no_header_carries(tmp_path: Path, token: str) -> None:
    """Line ends around it are none of it; else it is refused, and not shown."""
    (tmp_path / "token").write_text(f"\n{token}\n")
    for user in ({"tokenFile": "token"}, {"token": f" {token}\n"}):
        config = read(tmp_path, {**user})
        with pytest.raises(
            ApiUnreachableError, match="the kubeconfig's token is empty, or"
        ) as caught:
            await sent(config, 200)
        assert not token or token not in str(caught.value)
    script = tmp_path / "get-token"
    (tmp_path / "answer").write_text(json.dumps({"status": {"token": f" {token}"}}))
    script.write_text(f"#!/bin/sh\ncat {tmp_path}/answer\n")
    script.chmod(0o700)
    with pytest.raises(ApiUnreachableError, match="get-token prints a token that is empty"):
        await credential_of(Command(API, (str(script),)))
    assert await sent(read(tmp_path, {"token": "t\n"}), 200) == ["Bearer t"]


async def test_a_command_gives_the_token(tmp_path: Path) -> None:
    """It runs once, and again where the server does not take what it gave."""
    script(
        tmp_path,
        f'echo "$KUBERNETES_EXEC_INFO $1 $REGION" >> {tmp_path}/runs\n{printing("from-it")}',
    )
    environment = [{"name": "REGION", "value": "here"}]
    config = read(
        tmp_path,
        {"exec": {"apiVersion": API, "command": "./get-token", "args": ["a"], "env": environment}},
    )
    assert await sent(config, 200, 200, 401, 200) == ["Bearer from-it"] * 4
    runs = (tmp_path / "runs").read_text().splitlines()
    assert len(runs) == 2
    assert runs[0].endswith(" a here")
    assert json.loads(runs[0].removesuffix(" a here"))["apiVersion"] == API


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("echo secret; exit 3", "ended with status 3"),
        ("echo secret", "prints no token, and no certificate"),
        (printing(""), "prints no token, and no certificate"),
        ("exec cat /dev/zero", "prints too much"),
        ("exec sleep 60", "has not ended"),
    ],
)
async def test_a_command_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, word: str
) -> None:
    """Its name and what it did are said, and nothing that it printed; it is not left running."""
    if "sleep" in text:
        monkeypatch.setattr(login, "COMMAND_S", 3.0)
    path = script(tmp_path, f"echo $$ > {tmp_path}/pid\n{text}")
    async with asyncio.timeout(20):
        with pytest.raises(ApiUnreachableError, match=f"get-token {word}") as caught:
            await credential_of(Command(API, (str(path),)))
    assert "secret" not in str(caught.value)
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


async def test_no_such_command(tmp_path: Path) -> None:
    """Neither one that is not there nor one of another format is run."""
    with pytest.raises(ApiUnreachableError, match="No such file"):
        await credential_of(Command(API, (str(tmp_path / "gone"),)))
    with pytest.raises(ApiUnreachableError, match="API version"):
        await credential_of(Command("v9", ("true",)))


async def test_a_client_certificate_is_shown(tmp_path: Path) -> None:
    """A server that wants one gets it, from a file or from the kubeconfig itself."""
    ca = PrivateCA(tmp_path)
    mine = ca.issue("127.0.0.1")
    context = mine.context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(ca.ca_file)
    names: list[object] = []

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        names.append(writer.get_extra_info("peercert").get("subject"))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    data = base64.b64encode(Path(mine.cert_file).read_bytes()).decode()
    config = read(
        tmp_path,
        {"client-certificate-data": data, "client-key": str(mine.key_file)},
        **{"certificate-authority": str(ca.ca_file)},
    )
    async with server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=config.tls())
        await reader.read()
        writer.close()
    assert names


def test_insecure_and_encrypted(tmp_path: Path) -> None:
    """Without an authority verification may be off; a key under a passphrase asks nobody."""
    context = read(tmp_path, {}, **{"insecure-skip-tls-verify": True}).tls()
    assert (context.check_hostname, context.verify_mode) == (False, ssl.CERT_NONE)
    context = read(tmp_path, {}).tls()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
    mine = PrivateCA(tmp_path).issue("127.0.0.1")
    key = serialization.load_pem_private_key(mine.key_file.read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"passphrase"),
    )
    mine.key_file.write_bytes(locked)
    user = {"client-certificate": str(mine.cert_file), "client-key": str(mine.key_file)}
    with pytest.raises((ssl.SSLError, ValueError)):
        read(tmp_path, user).tls()
