"""The connections of the metrics: who waits, who goes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from shimcore.daemon import metrics_http
from shimcore.daemon.accepting import Acceptor
from shimcore.daemon.metrics_http import CONNECTIONS, MetricsPages
from tests.support.polling import until

GET = b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n"


class Body:
    """Counts how often it is made; each piece takes `work_s`."""

    def __init__(self, size: int = 10, work_s: float = 0.0) -> None:
        self.made = 0
        self._size = size
        self._work_s = work_s

    def __call__(self) -> Iterator[bytes]:
        self.made += 1
        for _ in range(2):
            time.sleep(self._work_s)
            yield b"x" * (self._size // 2)


class Served:
    def __init__(self, body: Body) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.listening.setblocking(False)
        self.pages = MetricsPages("text/plain", body)
        self.acceptor = Acceptor(
            self.listening, lambda _: self.pages.protocol(), self.pages.room, "metrics"
        )

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self.listening.getsockname()
        return await asyncio.open_connection(host, port)

    async def ask(self, head: bytes = GET) -> bytes:
        reader, writer = await self.connect()
        writer.write(head)
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        return answer

    def close(self) -> None:
        self.acceptor.close()
        self.pages.close()
        self.listening.close()


async def test_the_oldest_that_says_nothing_makes_way() -> None:
    """Idle ones keep nobody out."""
    served = Served(Body())
    idle = [await served.connect() for _ in range(CONNECTIONS + 5)]
    assert (await served.ask()).startswith(b"HTTP/1.1 200 ")
    for reader, _ in idle[:5]:
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
    for _, writer in idle:
        writer.close()
    served.close()


async def test_an_idle_connection_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """So does one that sends a byte now and then, and one that does not read its answer."""
    monkeypatch.setattr(metrics_http, "EXCHANGE_S", 0.5)
    served = Served(Body(50_000_000))
    idle, slow, unread = [await served.connect() for _ in range(3)]
    unread[1].write(GET)
    for _ in range(8):
        slow[1].write(b"G")
        await asyncio.sleep(0.1)
    for reader, writer in (idle, slow, unread):
        try:
            got = await asyncio.wait_for(reader.read(), 5)
        except ConnectionError:
            got = b""
        assert len(got) < 50_000_000
        writer.close()
    served.close()


async def test_who_asks_at_the_same_time_shares_one_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood is the work of one; who asks then waits for a new one, four times as long."""
    monkeypatch.setattr(metrics_http, "TURN_S", 0.2)  # so long others have their turn, too
    body = Body(work_s=0.21)
    served = Served(body)
    answers = await asyncio.gather(*(served.ask() for _ in range(20)))
    assert all(answer.endswith(b"\r\n\r\n" + b"x" * 10) for answer in answers)
    assert body.made == 1
    began = time.monotonic()
    await served.ask()
    assert body.made == 2
    assert time.monotonic() - began > 1.68
    served.close()


async def test_who_waits_when_it_stops(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its place is free again, for a hand-over that fails; nothing is said of it."""
    monkeypatch.setattr(metrics_http, "PAUSE_TIMES", 1000)
    body = Body(work_s=0.01)
    served = Served(body)
    await served.ask()
    waiting = [asyncio.ensure_future(served.ask()) for _ in range(CONNECTIONS)]
    await until(lambda: len(served.pages._answering) == CONNECTIONS, "not all of them wait")
    served.pages.close()
    await asyncio.gather(*waiting, return_exceptions=True)
    await until(lambda: not (served.pages._answering or served.pages._asking), "somebody waits on")
    assert served.pages.room(CONNECTIONS - 1)
    assert body.made == 1
    assert not caplog.records
    served.close()


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET http://h:9464/metrics HTTP/1.1", b"200"),
        (b"GET http://h?/metrics HTTP/1.1", b"404"),
        (b"GET http://" + b"a" * 8100 + b" X", b"400"),
        (b"G" * 8100 + b" X", b"400"),
        (b"GET " + b"http://" * 1150 + b" X", b"400"),
    ],
    ids=["absolute", "no path", "host", "method", "hosts"],
)
async def test_a_request_line_is_gone_through_once(line: bytes, status: bytes) -> None:
    """One of 8 KiB that is none took a quarter of a second, and anybody may send them."""
    served = Served(Body())
    started = time.process_time()
    answer = await served.ask(line + b"\r\n\r\n")
    took_s = time.process_time() - started
    served.close()
    assert answer.split()[1] == status
    assert took_s < 0.1
