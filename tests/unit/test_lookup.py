"""Names that take long are one registry's, and so are their threads; addresses have turns."""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import errno
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, wait
from unittest import mock

import httpcore
import pytest

from shimcore import lookup
from shimcore.lookup import ADDRESSES, LOOKUPS, LookupBackend, Lookups
from shimcore.registry.errors import Fault, UnreachableError
from shimcore.registry.http.proxy import ProxyRules
from shimcore.registry.http.transport import Ask, Transport
from shimcore.threads import started
from tests.support.polling import until

SLOW = "slow-{}.invalid"


class NameServer:
    """Answers at once, but for slow names, which wait for the test."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.addresses: dict[str, list[str]] = {}
        self.go_on = threading.Event()

    def look_up(self, host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        """As `socket.getaddrinfo`."""
        self.asked.append(host)
        if host.startswith("slow"):
            self.go_on.wait(10)
        if host.startswith("nowhere"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (socket.AF_INET6 if ":" in one else socket.AF_INET, 0, 0, "", (one, 0))
            for one in self.addresses.get(host, ["127.0.0.1"])
        ]


@pytest.fixture
def names() -> Iterator[NameServer]:
    """The name server of the process; every thread that asks it has ended at the end."""
    server, threads = NameServer(), list[Future[list[str]]]()

    def start(work: Callable[[], list[str]]) -> Future[list[str]]:
        threads.append(started(work))
        return threads[-1]

    with (
        mock.patch.object(socket, "getaddrinfo", server.look_up),
        mock.patch.object(lookup, "started", start),
    ):
        yield server
        server.go_on.set()
        wait(threads)  # one that begins late would ask the next test's


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[int]:
    """A port of 127.0.0.1 at which somebody accepts."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def ask(host: str, limit_s: float) -> None:
    """As a registry is asked."""
    transport = Transport(host, ssl.create_default_context(), ProxyRules("", "", ()))
    deadline = asyncio.get_running_loop().time() + limit_s
    try:
        await transport.send(Ask("GET", f"http://{host}/v2/", deadline))
    finally:
        await transport.aclose()


async def test_an_address_is_not_looked_up(names: NameServer) -> None:
    """Of either family."""
    lookups = Lookups()
    assert await lookups.addresses("127.0.0.1") == ["127.0.0.1"]
    assert await lookups.addresses("::1") == ["::1"]
    assert not names.asked


async def test_families_take_turns(names: NameServer) -> None:
    """In the order of the resolver, each address once."""
    names.addresses["both"] = ["::1", "::2", "127.0.0.1", "::2"]
    assert await Lookups().addresses("both") == ["::1", "127.0.0.1", "::2"]


async def test_a_link_local_address_keeps_its_interface() -> None:
    """Without it nobody can be reached there."""
    found = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, 0, 0, scope))
        for address, scope in (("fe80::1", 2), ("fe80::1", 3), ("fd00::1", 0))
    ]
    with mock.patch.object(socket, "getaddrinfo", return_value=found):
        assert await Lookups().addresses("hub.local") == ["fe80::1%2", "fe80::1%3", "fd00::1"]


async def test_slow_names_are_a_few_threads(names: NameServer) -> None:
    """Of one registry; another's are looked up, and what is done beside the loop is done."""
    lookups = Lookups()
    waiting = [asyncio.create_task(lookups.addresses(SLOW.format(n))) for n in range(40)]
    await until(lambda: len(names.asked) >= LOOKUPS, "not as many are looked up as may be")
    await asyncio.sleep(0.1)
    assert len(names.asked) == LOOKUPS
    async with asyncio.timeout(5):
        assert await asyncio.to_thread(lambda: 1) == 1
        assert await Lookups().addresses("quick") == ["127.0.0.1"]
        names.go_on.set()
        await asyncio.gather(*waiting)
    assert len(names.asked) == 41


async def test_a_lookup_that_nobody_waits_for_keeps_its_place(names: NameServer) -> None:
    """Its thread is there until the name server has answered."""
    lookups = Lookups()
    for n in range(LOOKUPS):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await lookups.addresses(SLOW.format(n))
    late = asyncio.create_task(lookups.addresses("quick"))
    await asyncio.sleep(0.05)
    assert "quick" not in names.asked
    names.go_on.set()
    async with asyncio.timeout(5):
        assert await late == ["127.0.0.1"]


async def test_one_lookup_for_all_who_ask(names: NameServer) -> None:
    """Also if the first of them has gone, and for its failure."""
    lookups = Lookups()
    first = asyncio.create_task(lookups.addresses(SLOW.format(0)))
    others = [asyncio.create_task(lookups.addresses(SLOW.format(0))) for _ in range(10)]
    await asyncio.sleep(0.02)
    first.cancel()
    names.go_on.set()
    assert await asyncio.gather(*others) == [["127.0.0.1"]] * 10
    assert len(names.asked) == 1
    failed = [lookups.addresses("nowhere") for _ in range(3)]
    for error in await asyncio.gather(*failed, return_exceptions=True):
        assert isinstance(error, socket.gaierror)


async def test_a_lookup_that_never_ends(names: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it is old, another one's answer is for all; it leaves a place to other names."""
    monkeypatch.setattr(lookup, "LOOKUP_OLD_S", 0.05)
    lookups, name = Lookups(), SLOW.format(0)
    stuck = []
    for n in range(1, LOOKUPS + 2):
        stuck.append(asyncio.create_task(lookups.addresses(name)))
        await until(lambda: len(names.asked) >= min(len(stuck), LOOKUPS - 1), "it is not asked for")
        await asyncio.sleep(0.06)
        assert names.asked == [name] * min(n, LOOKUPS - 1)
    assert await lookups.addresses("quick") == ["127.0.0.1"]
    names.go_on.set()
    async with asyncio.timeout(5):
        assert await asyncio.gather(*stuck) == [["127.0.0.1"]] * len(stuck)
        assert await lookups.addresses(name) == ["127.0.0.1"]


async def test_a_second_lookup_ends_first(
    names: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its failure is not the first one's, whose answer may come; its answer is."""
    monkeypatch.setattr(lookup, "LOOKUP_OLD_S", 0.02)
    lookups = Lookups()
    answers = iter([socket.gaierror(socket.EAI_AGAIN, "again"), None])
    first = asyncio.create_task(lookups.addresses(SLOW.format(0)))
    await until(lambda: names.asked, "the first lookup was not begun")
    for answer in answers:
        await asyncio.sleep(0.05)
        side_effect = answer or [names.look_up("quick")]
        with mock.patch.object(socket, "getaddrinfo", side_effect=side_effect) as resolver:
            second = asyncio.create_task(lookups.addresses(SLOW.format(0)))
            await until(lambda: resolver.called, "the second lookup was not begun")
        await asyncio.sleep(0.05)
        if answer is None:
            await asyncio.wait([second], timeout=5)
        assert first.done() is second.done() is (answer is None)
    assert await first == await second == ["127.0.0.1"]


async def test_no_memory_for_a_lookup(names: NameServer) -> None:
    """It ends all the same, as a shortage of this process; the next one is another."""
    lookups = Lookups()
    for _ in range(LOOKUPS + 1):
        with (
            mock.patch.object(socket, "getaddrinfo", side_effect=MemoryError),
            pytest.raises(OSError, match="quick cannot be looked up: no memory") as caught,
        ):
            async with asyncio.timeout(5):
                await lookups.addresses("quick")
        assert caught.value.errno == errno.ENOMEM
    assert await lookups.addresses("quick") == ["127.0.0.1"]


async def test_a_name_that_is_not_looked_up_in_time(names: NameServer) -> None:
    """It is told to be that; a connection that is not made in time is not."""

    async def silent(*_: object) -> None:
        await asyncio.sleep(10)

    backend, slow = LookupBackend(), SLOW.format(0)
    with pytest.raises(httpcore.ConnectTimeout, match=f"the name {slow} was not looked up in time"):
        await backend.connect_tcp(slow, 1, 0.05)
    with pytest.raises(UnreachableError, match=f"the name {slow} was not looked up in time"):
        await ask(slow, 0.05)
    with (
        mock.patch.object(httpcore.AnyIOBackend, "connect_tcp", silent),
        pytest.raises(httpcore.ConnectTimeout, match="no connection to silent in time"),
    ):
        await backend.connect_tcp("silent", 1, 1.0)


async def test_more_who_wait_for_a_place_than_there_are_names(names: NameServer) -> None:
    """They take none that others need."""
    lookups = Lookups()
    slow = [asyncio.create_task(lookups.addresses(SLOW.format(n))) for n in range(LOOKUPS)]
    await asyncio.sleep(0.02)
    same = [asyncio.create_task(lookups.addresses("quick")) for _ in range(3 * LOOKUPS)]
    await asyncio.sleep(0.02)
    names.go_on.set()
    async with asyncio.timeout(5):
        await asyncio.gather(*slow, *same)
        others = [lookups.addresses(f"other-{n}") for n in range(2 * LOOKUPS)]
        await asyncio.gather(*others)


async def test_a_thread_that_cannot_be_started(names: NameServer) -> None:
    """It costs each who asks then one answer, and neither the name nor a place for good."""
    backend, lookups = LookupBackend(), Lookups()
    refused = RuntimeError("can't start new thread")
    with mock.patch.object(_thread, "start_new_thread", side_effect=refused):
        for _ in range(LOOKUPS + 1):
            with pytest.raises(OSError, match="quick cannot be looked up: can't start new thread"):
                await lookups.addresses("quick")
        with pytest.raises(httpcore.ConnectError, match="can't start new thread"):
            await backend.connect_tcp("quick", 1)
        with pytest.raises(UnreachableError, match="can't start new thread") as caught:
            await ask("quick", 5)
    assert caught.value.fault is Fault.OWN
    async with asyncio.timeout(5):
        assert await lookups.addresses("quick") == ["127.0.0.1"]


async def test_a_name_that_cannot_be_resolved(names: NameServer) -> None:
    """It is an error of connecting whose cause is the resolver's."""
    with pytest.raises(httpcore.ConnectError) as caught:
        await LookupBackend().connect_tcp("nowhere", 1)
    assert isinstance(caught.value.__cause__, socket.gaierror)


async def test_the_next_address_is_tried(names: NameServer) -> None:
    """After one that refuses at once, and after one that says nothing."""
    async with listening() as port:
        for first in ("127.0.0.2", "192.0.2.1"):
            names.addresses["two"] = [first, "127.0.0.1"]
            async with asyncio.timeout(5):
                stream = await LookupBackend().connect_tcp("two", port)
            assert stream.get_extra_info("server_addr")[0] == "127.0.0.1"
            await stream.aclose()


async def test_every_address_is_tried_in_time(names: NameServer) -> None:
    """Also the last of as many as there may be, within the default of `probeTimeout`."""
    silent = [f"192.0.2.{n}" for n in range(1, ADDRESSES)]
    names.addresses["many"] = [*silent, "127.0.0.1"]
    async with listening() as port:
        stream = await LookupBackend().connect_tcp("many", port, timeout=3)
    await stream.aclose()


async def test_no_address_that_answers(names: NameServer) -> None:
    """The last one's error is told; one without any address is an error, too."""
    async with listening() as port:
        pass
    names.addresses.update(two=["127.0.0.2", "127.0.0.1"], none=[])
    for host in ("two", "none"):
        with pytest.raises((httpcore.ConnectError, OSError)):
            await LookupBackend().connect_tcp(host, port)
