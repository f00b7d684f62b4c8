"""The mend of a registry, or an API server, whose name cannot be looked up."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from unittest import mock

import pytest

from shimcore.client.admin import endpoint_of
from shimcore.config import Registry
from shimcore.config.model import KubernetesSource
from shimcore.doctor import Node, cluster, registry_mends
from shimcore.registry.answers import PingReport
from tests.support.apiserver import StandInApi

HUB = Registry.unconfigured("http://hub.example:5000", "http", "hub.example:5000")
SILENT = PingReport(reachable=False, ok=False)


async def mend() -> str:
    return await registry_mends.mend_of(Node(endpoint_of("/none")), "/c.yaml", HUB, SILENT)


async def test_a_name_that_is_not_looked_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked up in no thread that the process waits for when it ends."""
    monkeypatch.setattr(registry_mends, "ANSWER_S", 0.05)
    go_on = threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        go_on.wait(10)
        return []

    with mock.patch.object(socket, "getaddrinfo", hang):
        assert (await mend()).startswith("getent ahosts hub.example  # ")
        assert not [one for one in threading.enumerate() if one.name.startswith("asyncio_")]
        go_on.set()


async def test_the_api_servers_name(tmp_path: Path) -> None:
    """Where the shim says that it is away; any other is to be started."""
    kubeconfig = StandInApi().kubeconfig(tmp_path / "kubeconfig")
    source = KubernetesSource(True, str(kubeconfig))
    state = {"state": "away", "detail": "why", "error": ""}
    start = await cluster._standing(state, source)
    assert start.mend.startswith("start the API server")
    kubeconfig.write_text(kubeconfig.read_text().replace("127.0.0.1", "api.example"))
    error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    with mock.patch.object(socket, "getaddrinfo", side_effect=error):
        named = await cluster._standing(state, source)
    assert named.mend.startswith("echo 'ADDRESS api.example' >> /etc/hosts")


async def test_a_name_without_an_address() -> None:
    """The resolver has said so."""
    error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    with mock.patch.object(socket, "getaddrinfo", side_effect=error):
        assert (await mend()).startswith("echo 'ADDRESS hub.example' >> /etc/hosts")
