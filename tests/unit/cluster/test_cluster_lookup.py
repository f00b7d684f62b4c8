"""The API server's name, whose lookup does not end."""

from __future__ import annotations

import _thread
import socket
import threading
from pathlib import Path
from unittest import mock

import httpx
import pytest

from shimcore.cluster import server
from shimcore.cluster.api import Api
from shimcore.cluster.documents import Kind
from shimcore.cluster.errors import ApiUnreachableError
from shimcore.config.model import KubernetesSource
from shimcore.threads import finish
from tests.support.apiserver import StandInApi


async def test_no_thread_for_it(tmp_path: Path) -> None:
    """That is what is told."""
    kubeconfig = StandInApi().kubeconfig(tmp_path / "kubeconfig")
    kubeconfig.write_text(kubeconfig.read_text().replace("127.0.0.1", "api.example"))
    api = Api(KubernetesSource(True, str(kubeconfig)))
    refused = RuntimeError("can't start new thread")
    with (
        mock.patch.object(_thread, "start_new_thread", side_effect=refused),
        pytest.raises(ApiUnreachableError, match=r"api\.example cannot be looked up: can't start"),
    ):
        await api.list(Kind.SECRET, fresh=False)
    await api.aclose()


async def test_it_is_told_and_has_no_thread_of_the_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which a process that ends would wait for, and which has other work."""
    monkeypatch.setattr(server, "_TIMEOUT", httpx.Timeout(0.05, read=None, pool=None))
    kubeconfig = StandInApi().kubeconfig(tmp_path / "kubeconfig")
    kubeconfig.write_text(kubeconfig.read_text().replace("127.0.0.1", "api.example"))
    source, go_on = KubernetesSource(True, str(kubeconfig)), threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        go_on.wait(10)
        return []

    with mock.patch.object(socket, "getaddrinfo", hang):
        for _ in range(3):  # connections, which share one lookup
            api = Api(source)
            with pytest.raises(ApiUnreachableError, match=r"the name api\.example was not looked"):
                await api.list(Kind.SECRET, fresh=False)
            await api.aclose()
        assert not [one for one in threading.enumerate() if one.name.startswith("asyncio_")]
        finish(0)  # waits for no lookup
        go_on.set()
