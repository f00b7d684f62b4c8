"""The mend of a registry whose name cannot be looked up."""

from __future__ import annotations

import socket
import threading
from unittest import mock

import pytest

from shimcore.client.admin import endpoint_of
from shimcore.config import Registry
from shimcore.doctor import Node, registry_mends
from shimcore.registry.answers import PingReport

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


async def test_a_name_without_an_address() -> None:
    """The resolver has said so."""
    error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    with mock.patch.object(socket, "getaddrinfo", side_effect=error):
        assert (await mend()).startswith("echo 'ADDRESS hub.example' >> /etc/hosts")
