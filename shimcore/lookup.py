"""Addresses of hosts: each registry, and the API server, has lookups of its own, a few at a time.

A name server may take as long as it likes, and whoever answers for a registry names the hosts
that are asked for next: a few such names shall not hold up everybody else's lookups.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from itertools import chain, zip_longest

import anyio._backends._asyncio  # noqa: F401 - else the first connection does, on the event loop
import httpcore

from shimcore.threads import started

# Lookups of one registry that are under way: its own name, its token realm's and a mirror's or two
# that it redirects to.
LOOKUPS = 4
# One of this age may never end: who asks then begins another beside it. glibc asks its next name
# server after so long (resolv.conf(5), timeout).
LOOKUP_OLD_S = 5.0
# After so long without a connection the next address is tried as well (RFC 8305 §5).
NEXT_ADDRESS_S = 0.25
# All have been tried after so long: `probeTimeout` is 3 s by default.
ALL_ADDRESSES_S = 2.0
# Addresses of one name that are tried.
ADDRESSES = 16

_Attempt = asyncio.Task[httpcore.AsyncNetworkStream]


@dataclass(slots=True)
class _Lookup:
    """Of one host: the first answer of its threads, else the last one's failure."""

    found: asyncio.Future[list[str]]
    begun_at: float = 0.0  # the latest of its threads
    threads: int = 0


def not_in_time(host: str) -> str:
    """Why there is no connection to a host that is still being looked up."""
    return f"the name {host} was not looked up in time: does this node's DNS answer?"


class Lookups:
    """What one registry, or another who asks, has looked up."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(LOOKUPS)
        self._running: dict[str, _Lookup] = {}

    def running(self, host: str) -> bool:
        """Whether a host is being looked up."""
        return host in self._running

    async def addresses(self, host: str) -> list[str]:
        """The addresses of a host, of both families in turn. Raises OSError, UnicodeError.

        Those who ask for the same at a time share one lookup, and another beside it when it is
        old. Each has its place until the name server has answered, also if nobody waits any more.
        """
        with contextlib.suppress(ValueError):
            return [str(ipaddress.ip_address(host))]
        if self._to_be_begun(host):
            await self._free.acquire()
            if self._to_be_begun(host):
                self._begin(host)
            else:
                self._free.release()
        return await asyncio.shield(self._running[host].found)

    def _to_be_begun(self, host: str) -> bool:
        running = self._running.get(host)
        if running is None:
            return True
        age_s = asyncio.get_running_loop().time() - running.begun_at
        return age_s > LOOKUP_OLD_S and running.threads < LOOKUPS - 1 and not self._free.locked()

    def _begin(self, host: str) -> None:
        loop = asyncio.get_running_loop()
        lookup = self._running.get(host) or _Lookup(loop.create_future())

        def end(answer: asyncio.Future[list[str]]) -> None:
            self._free.release()
            lookup.threads -= 1
            error = answer.exception()
            if lookup.found.done() or (error is not None and lookup.threads):
                return
            del self._running[host]
            if error is None:
                lookup.found.set_result(answer.result())
                return
            if not isinstance(error, OSError | UnicodeError):
                error = OSError(errno.ENOMEM, f"{host} cannot be looked up: {error}")
            lookup.found.set_exception(error)
            lookup.found.exception()  # somebody may have waited, or nobody

        try:
            answer = asyncio.wrap_future(started(partial(_look_up, host)))
        except RuntimeError as error:  # no thread can be had: the next is another
            self._free.release()
            raise OSError(errno.EAGAIN, f"{host} cannot be looked up: {error}") from error
        answer.add_done_callback(end)
        lookup.threads += 1
        lookup.begun_at = loop.time()
        self._running[host] = lookup


def _look_up(host: str) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    families: dict[int, list[str]] = {}
    for family, _, _, _, address in found:
        # A link-local address is one of an interface (RFC 4007 §11).
        scope = f"%{address[3]}" if len(address) == 4 and address[3] else ""
        families.setdefault(family, []).append(f"{address[0]}{scope}")
    in_turn = chain.from_iterable(zip_longest(*families.values(), fillvalue=""))
    return list(dict.fromkeys(filter(None, in_turn)))[:ADDRESSES]


class LookupBackend(httpcore.AsyncNetworkBackend):
    """Makes connections to hosts whose addresses it looks up by itself."""

    def __init__(self) -> None:
        self.lookups = Lookups()
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address that answers, within `timeout`, its lookup included.

        Raises httpcore.ConnectError, httpcore.ConnectTimeout, OSError.
        """
        addresses: list[str] | None = None
        try:
            async with asyncio.timeout(timeout):
                try:
                    addresses = await self.lookups.addresses(host)
                except OSError as error:
                    raise httpcore.ConnectError(str(error)) from error
                return await self._first(addresses, port, local_address, list(socket_options or ()))
        except TimeoutError as error:
            reason = f"no connection to {host} in time" if addresses else not_in_time(host)
            raise httpcore.ConnectTimeout(reason) from error

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
                next_s = min(NEXT_ADDRESS_S, ALL_ADDRESSES_S / len(addresses))
                done, _ = await asyncio.wait(
                    trying, timeout=next_s if left else None, return_when=asyncio.FIRST_COMPLETED
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
