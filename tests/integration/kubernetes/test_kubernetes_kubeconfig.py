"""What the follower is given to reach the server with, and how it may be wrong."""

from __future__ import annotations

import json
import os
import ssl
from pathlib import Path

import pytest
import yaml

from shimcore.cluster.documents import Kind
from shimcore.cluster.watch import Condition
from shimcore.config.model import KubernetesSource
from tests.integration.kubernetes.following import PASSWORD, followed
from tests.support.apiserver import TOKEN, StandInApi, standing_in
from tests.support.tls import PrivateCA


async def test_tls_is_verified(tmp_path: Path) -> None:
    """With the kubeconfig's authority it is reached; with another it is not, and that is said."""
    ca = PrivateCA(tmp_path)
    (tmp_path / "other").mkdir()
    other = PrivateCA(tmp_path / "other")
    async with standing_in(tls=ca.issue("127.0.0.1").context()) as server:
        path = tmp_path / "kubeconfig"
        server.kubeconfig(path, ca_file=other.ca_file)
        async with followed(KubernetesSource(True, str(path))) as one:
            await one.until(lambda: one.condition is Condition.AWAY)
            assert "TLS" in one.follower.status.detail
            server.kubeconfig(path, ca_file=ca.ca_file)
            await one.until(lambda: one.condition is Condition.WATCHING)


async def test_a_certificate_that_a_command_prints(tmp_path: Path) -> None:
    """It is shown to the server, beside the token; one that cannot be used is said."""
    ca = PrivateCA(tmp_path)
    mine = ca.issue(common_name="system:node:n1", organization="system:nodes")
    context = ca.issue("127.0.0.1").context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(ca.ca_file)
    status = {
        "token": TOKEN,
        "clientCertificateData": mine.cert_file.read_text(),
        "clientKeyData": PASSWORD,
    }
    answer, path = tmp_path / "answer", tmp_path / "kubeconfig"
    api = "client.authentication.k8s.io/v1"
    command = {"apiVersion": api, "command": "cat", "args": [str(answer)]}
    answer.write_text(json.dumps({"status": status}))
    async with standing_in(tls=context) as server:
        server.kubeconfig(path, ca_file=ca.ca_file)
        tree = yaml.safe_load(path.read_text())
        tree["users"][0]["user"] = {"exec": command}
        path.write_text(yaml.safe_dump(tree))
        async with followed(KubernetesSource(True, str(path))) as one:
            await one.until(lambda: one.condition is Condition.AWAY)
            assert one.follower.status.detail.endswith("certificate or key that cannot be used")
            status["clientKeyData"] = mine.key_file.read_text()
            answer.write_text(json.dumps({"status": status}))
            await one.until(lambda: one.condition is Condition.WATCHING)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (None, "no such file"),
        ("", "not a kubeconfig"),
        (f"a: [{PASSWORD}", "not YAML"),
        (f"users: [{PASSWORD}]", "not a kubeconfig"),
        ("clusters: []\ncontexts: []\nusers: []\n", "no current context"),
        (
            "current-context: c\nclusters: [{name: k, cluster: {server: 'https://x'}}]\n"
            "contexts: [{name: c, context: {cluster: k, user: u}}]\n"
            f"users: [{{name: u, user: {{client-certificate-data: {PASSWORD}, "
            f"client-key-data: {PASSWORD}}}}}]",
            "cannot be used",
        ),
    ],
)
async def test_a_bad_kubeconfig(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str | None, word: str
) -> None:
    """It is said what is wrong, with nothing of its content; it may be mended later."""
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_text(content)
    async with followed(KubernetesSource(True, str(path))) as one:
        await one.until(lambda: one.condition is Condition.AWAY)
        assert word in one.follower.status.detail
        assert PASSWORD not in one.follower.status.detail


@pytest.mark.parametrize("which", ["kubeconfig", "client-key", "certificate-authority"])
async def test_a_fifo_where_a_file_was(
    source: KubernetesSource, tmp_path: Path, which: str
) -> None:
    """Nobody waits for a writer."""
    os.mkfifo(tmp_path / "fifo")
    path = Path(source.kubeconfig)
    if which == "kubeconfig":
        path = tmp_path / "fifo"
    else:
        tree = yaml.safe_load(path.read_text())
        kind, name = ("users", "user") if which == "client-key" else ("clusters", "cluster")
        tree[kind][0][name][which] = str(tmp_path / "fifo")
        path.write_text(yaml.safe_dump(tree))
    async with followed(KubernetesSource(True, str(path))) as one:
        await one.until(lambda: one.condition is Condition.AWAY)
        assert "not a regular file" in one.follower.status.detail


@pytest.mark.parametrize("raw", [b"\xff\xfe: 1", b"\x00"])
async def test_a_secret_that_is_no_text(
    server: StandInApi, source: KubernetesSource, raw: bytes
) -> None:
    """It reaches the reader of the document, which refuses it."""
    server.put("Secret", raw)
    async with followed(source) as one:
        await one.until(lambda: bool(one.text(Kind.SECRET)))
        with pytest.raises(Exception, match="not YAML"):
            one.told[-1].layers()
