"""A watch over HTTP/2 that is silent: its server is asked whether it is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import PingReceived, RequestReceived

from shimcore.cluster import api as kubernetes_api
from shimcore.cluster import keepalive
from shimcore.cluster.api import Api
from shimcore.cluster.documents import Kind
from shimcore.cluster.errors import ApiUnreachableError
from shimcore.config.model import KubernetesSource
from tests.support.apiserver import StandInApi
from tests.support.tls import PrivateCA


class SilentServer:
    """Accepts every watch over HTTP/2 and says no more; `answers` PINGs or does not."""

    def __init__(self) -> None:
        self.answers = True
        self.pings: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = H2Connection(H2Configuration(client_side=False))
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        while data := await reader.read(65536):
            for event in connection.receive_data(data):
                if isinstance(event, PingReceived):
                    self.pings.append(event.ping_data or b"")
                if isinstance(event, RequestReceived):
                    connection.send_headers(event.stream_id, [(":status", "200")])
            out = connection.data_to_send()
            if self.answers or not self.pings:
                writer.write(out)
        writer.close()


@asynccontextmanager
async def silent_api(folder: Path) -> AsyncIterator[tuple[SilentServer, Api]]:
    silent, authority = SilentServer(), PrivateCA(folder)
    context = authority.issue("127.0.0.1").context()
    context.set_alpn_protocols(["h2"])
    server = await asyncio.start_server(silent.serve, "127.0.0.1", 0, ssl=context)
    named = StandInApi(tls=context)
    named._port = server.sockets[0].getsockname()[1]
    kubeconfig = named.kubeconfig(folder / "kubeconfig", ca_file=authority.ca_file)
    api = Api(KubernetesSource(True, str(kubeconfig)))
    try:
        yield silent, api
    finally:
        await api.aclose()
        server.close()


async def watch(api: Api, kind: Kind) -> None:
    async for event in api.watch(kind, "5", 60):
        assert event.bookmark


async def test_pings_keep_a_silent_watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One PING for each silence, for both watches together; answered, the watches go on."""
    monkeypatch.setattr(keepalive, "PING_AFTER_S", 0.2)
    async with silent_api(tmp_path) as (silent, api):
        watches = [asyncio.ensure_future(watch(api, kind)) for kind in Kind]
        done, _ = await asyncio.wait(watches, timeout=1.3)
        assert not done
        assert 3 <= len(silent.pings) <= 6
        assert set(silent.pings) == {b"shimping"}
        for one in watches:
            one.cancel()
        await asyncio.gather(*watches, return_exceptions=True)


async def test_a_ping_without_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer has gone without a word: both watches end, and say why."""
    monkeypatch.setattr(keepalive, "PING_AFTER_S", 0.2)
    monkeypatch.setattr(keepalive, "ACK_S", 0.2)
    async with silent_api(tmp_path) as (silent, api):
        silent.answers = False
        async with asyncio.timeout(5):
            ends = await asyncio.gather(
                *(watch(api, kind) for kind in Kind), return_exceptions=True
            )
        assert all(isinstance(end, ApiUnreachableError) for end in ends)
        assert all("no answer to a PING" in str(end) for end in ends)
        assert silent.pings == [b"shimping"]


async def test_a_proxy_that_answers_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PINGs are answered, but no bookmark ever comes: the server behind it is gone."""
    monkeypatch.setattr(keepalive, "PING_AFTER_S", 0.1)
    monkeypatch.setattr(kubernetes_api, "SILENCE_S", 0.5)
    async with silent_api(tmp_path) as (_, api):
        with pytest.raises(ApiUnreachableError, match="says nothing"):
            await watch(api, Kind.SECRET)
