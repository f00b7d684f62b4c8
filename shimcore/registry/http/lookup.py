"""Addresses of hosts: each registry has lookups of its own, a few at a time.

A name server may take as long as it likes, and whoever answers for a registry names the hosts
that are asked for next. In the process's own pool of threads a few such names would hold up
everybody else's lookups, and all other work that is done beside the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import socket
import threading
from collections.abc import Iterable

import httpcore

from shimcore.registry.http.wire import BoundedStream

# Lookups of one registry that are under way: its own name, its token realm's and a mirror's or two
# that it redirects to.
LOOKUPS = 4
# After so long without a connection the next address is tried as well (RFC 8305 §5).
NEXT_ADDRESS_S = 0.25
# Addresses of one name that are tried.
ADDRESSES = 16

_Attempt = asyncio.Task[httpcore.AsyncNetworkStream]


class Lookups:
    """What one registry has looked up."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(LOOKUPS)
        self._running: dict[str, asyncio.Future[list[str]]] = {}

    async def addresses(self, host: str) -> list[str]:
        """The addresses of a host, of both families in turn. Raises OSError, UnicodeError.

        Those who ask for the same at a time share one lookup. It has its place until the
        name server has answered, also if nobody waits any more.
        """
        with contextlib.suppress(ValueError):
            return [str(ipaddress.ip_address(host))]
        running = self._running.get(host)
        if running is None:
            await self._free.acquire()
            running = self._running.get(host)
            if running is None:
                running = self._begin(host)
            else:
                self._free.release()
        return await asyncio.shield(running)

    def _begin(self, host: str) -> asyncio.Future[list[str]]:
        loop = asyncio.get_running_loop()
        found: asyncio.Future[list[str]] = loop.create_future()

        def end(addresses: list[str], error: OSError | UnicodeError | None) -> None:
            self._free.release()
            del self._running[host]
            if error is None:
                found.set_result(addresses)
            else:
                found.set_exception(error)
                found.exception()  # somebody may have waited, or nobody

        def look() -> None:
            addresses: list[str] = []
            error: OSError | UnicodeError | None = None
            try:
                addresses = _look_up(host)
            except (OSError, UnicodeError) as caught:
                error = caught
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(end, addresses, error)

        # Not a pool's: the process does not wait for a name server when it ends.
        thread = threading.Thread(target=look, name=f"lookup of {host}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no thread can be had: the next question is another
            self._free.release()
            raise OSError(errno.EAGAIN, f"{host} cannot be looked up: {error}") from error
        self._running[host] = found
        return found


def _look_up(host: str) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    families: dict[int, list[str]] = {}
    for family, _, _, _, address in found:
        families.setdefault(family, []).append(str(address[0]))
    ordered: list[str] = []
    while any(families.values()):
        ordered += [addresses.pop(0) for addresses in families.values() if addresses]
    return list(dict.fromkeys(ordered))[:ADDRESSES]


class LookupBackend(httpcore.AsyncNetworkBackend):
    """Makes connections to hosts whose addresses it looks up by itself; answers are bounded."""

    def __init__(self) -> None:
        self._lookups = Lookups()
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address that answers. Raises httpcore.ConnectError, OSError."""
        try:
            addresses = await self._lookups.addresses(host)
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        options = list(socket_options or ())
        async with asyncio.timeout(timeout):
            return BoundedStream(await self._first(addresses, port, local_address, options))

    async def _first(
        self,
        addresses: list[str],
        port: int,
        local: str | None,
        options: list[httpcore.SOCKET_OPTION],
    ) -> httpcore.AsyncNetworkStream:
        """One address after the other, the next also while the one before says nothing."""
        trying: set[_Attempt] = set()
        left = list(addresses)
        failure: BaseException = OSError("it has no address")
        try:
            while left or trying:
                if left:
                    one = self._backend.connect_tcp(left.pop(0), port, None, local, options)
                    trying.add(asyncio.ensure_future(one))
                wait_s = NEXT_ADDRESS_S if left else None
                done, _ = await asyncio.wait(
                    trying, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED
                )
                for attempt in done:
                    trying.discard(attempt)
                    error = attempt.exception()
                    if error is None:
                        return attempt.result()
                    failure = error
        finally:
            await _give_up(trying)
        raise failure


async def _give_up(trying: set[_Attempt]) -> None:
    """End attempts that nobody waits for, those included that have come to something."""
    for attempt in trying:
        attempt.cancel()
    for made in await asyncio.gather(*trying, return_exceptions=True):
        if isinstance(made, httpcore.AsyncNetworkStream):
            await made.aclose()
