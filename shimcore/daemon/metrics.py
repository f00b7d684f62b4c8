"""Prometheus metrics: what an operator of many nodes wants to see, and never an image's name."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from shimcore import __version__
from shimcore.daemon.accepting import Acceptor
from shimcore.daemon.metrics_http import MetricsPages
from shimcore.images.call import METHODS
from shimcore.lookup import Lookups, not_in_time
from shimcore.registry.answers import RegistryState
from shimcore.relay.proxy_connection import ENDLESS_METHODS
from shimcore.runtime.errors import StatusCode

if TYPE_CHECKING:
    from shimcore.daemon.shim import Shim

log = logging.getLogger("shimcore.daemon")

_CALL_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10, 60)
_PULL_SECONDS = (0.05, 0.25, 1, 5, 15, 30, 60, 120, 300, 600, 900)
_STATES = tuple(RegistryState)
# A client may call anything; past this many names (the CRI has about sixty, in two versions) the
# rest are counted together.
_METHODS = 128
_OTHER = "other"
_BACKLOG = 64
# An address that cannot be had, such as one that DHCP has yet to bring, is tried again.
_AGAIN_S = 10.0
# Why it cannot: also a name that no resolver takes.
_NOT_HAD = (OSError, UnicodeError, MemoryError)
# A lookup that takes longer is told; one that takes as long as this begins anew.
_SLOW_S, _LOOKUP_S = 1.0, 30.0
# Every node asks for what is older than this: an alert after five minutes is one.
_STATE_OLD_S = 60.0
# Likewise of the runtime.
_RUNTIME_OLD_S = 5.0
_CODES = {int(code): code.name for code in StatusCode}


class CallMetrics:
    """Counts every call that the relay carries, with its end; the relay's observer."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._calls = Counter(
            "image_cri_shim_calls",
            "Calls by method and gRPC code.",
            ["method", "code"],
            registry=registry,
        )
        self._seconds = Histogram(
            "image_cri_shim_call_seconds",
            "Seconds of a call, pulls and endless streams apart.",
            ["method"],
            buckets=_CALL_SECONDS,
            registry=registry,
        )
        self._pulls = Gauge(
            "image_cri_shim_pulls_in_flight", "PullImage calls under way.", registry=registry
        )
        self._pull_seconds = Histogram(
            "image_cri_shim_pull_seconds",
            "Seconds of a PullImage call, by its gRPC code.",
            ["code"],
            buckets=_PULL_SECONDS,
            registry=registry,
        )
        # The image calls come first: no name that a client makes up takes the place of one.
        self._methods = {path.encode(): path.lstrip("/") for path in METHODS}

    def began(self, path: bytes) -> None:
        """A call has begun."""
        if path.endswith(b"/PullImage"):
            self._pulls.inc()

    def ended(self, path: bytes, status: int, seconds: float) -> None:
        """A call is over, with its gRPC status."""
        code = _CODES.get(status, _OTHER)
        method = self._method(path)
        self._calls.labels(method, code).inc()
        if path.endswith(b"/PullImage"):
            self._pulls.dec()
            self._pull_seconds.labels(code).observe(seconds)
        elif not path.endswith(ENDLESS_METHODS):
            self._seconds.labels(method).observe(seconds)

    def refused(self) -> None:
        """A call was answered UNAVAILABLE in the runtime's place; its method was not read."""
        self._calls.labels(_OTHER, "UNAVAILABLE").inc()

    def _method(self, path: bytes) -> str:
        method = self._methods.get(path)
        if method is None:
            if len(self._methods) >= _METHODS:
                return _OTHER
            method = self._methods[path] = path.decode("ascii", "replace").lstrip("/")[:128]
        return method


class ShimCollector:
    """What the shim knows anyway, read when somebody asks."""

    def __init__(self, shim: Shim, dropped_lines: Callable[[], int]) -> None:
        self._shim = shim
        self._dropped_lines = dropped_lines

    def collect(self) -> Iterator[Metric]:
        """One reading."""
        shim = self._shim
        generation = shim.generations.current
        stats = generation.images.stats()
        info = GaugeMetricFamily("image_cri_shim_info", "Always 1.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        yield from self._config()
        if shim.runtime_said is not None:
            yield _gauge("runtime_ready", "1: it answers, and is ready.", shim.runtime_said.ready)
        yield _gauge("connections_open", "Clients' connections.", len(shim.relay.connections))
        in_work = shim.relay.slots.taken + shim.relay.pull_slots.taken
        yield _gauge("decisions_in_work", "Held calls in work.", in_work)
        yield _gauge("held_bytes", "Request bytes that are held.", shim.relay.budget.used)
        yield _counter("log_lines_dropped", "Log lines that nobody read.", self._dropped_lines())
        yield _gauge("cache_entries", "Images remembered.", stats["entries"])
        yield _counter("cache_hits", "Questions answered from memory.", stats["hits"])
        yield _counter("cache_misses", "Questions that went to registries.", stats["misses"])
        rewrites = CounterMetricFamily(
            "image_cri_shim_rewrites",
            "Pulls by registry and by what became of them there, in the words of `history`.",
            labels=["registry", "outcome"],
        )
        for (host, outcome), count in stats["rewrites"].items():
            rewrites.add_metric([host, outcome], count)
        yield rewrites
        fetched = CounterMetricFamily(
            "image_cri_shim_fetched_bytes", "Bytes that pulls brought.", labels=["registry"]
        )
        for host, count in stats["bytes"].items():
            fetched.add_metric([host], count)
        yield fetched
        yield self._registry_states()

    def _config(self) -> Iterator[Metric]:
        shim = self._shim
        yield _gauge("config_generation", "Configurations put in force.", shim.generation_number)
        yield _gauge("config_valid", "1: the file can be used.", 0 if shim.config_fault else 1)
        yield _gauge("config_loaded_timestamp_seconds", "When it came into force.", shim.loaded_at)
        if shim.config.kubernetes.enabled:
            cluster, lone = shim.cluster, shim.config.lone_logins
            refused = cluster.fault or any(each.origin != shim.config_file for each in lone)
            text = "1: all that the cluster's documents say can be used."
            yield _gauge("cluster_config_valid", text, 0 if refused else 1)
            watching = cluster.follower is not None and cluster.follower.status.watching
            yield _gauge("cluster_watching", "1: a change of theirs is learnt of.", watching)

    def _registry_states(self) -> Metric:
        generation = self._shim.generations.current
        now = generation.registries.health()
        states = GaugeMetricFamily(
            "image_cri_shim_registry_state",
            "1 for the state that a registry is in, as `status` shows it.",
            labels=["registry", "state"],
        )
        for registry in generation.config.registries:
            current = now[registry.host].state
            for state in _STATES:
                label = state.name.lower()
                states.add_metric([registry.host, label], 1 if state is current else 0)
        return states


class MetricsServer:
    """Serves metrics at `address` (host:port) in the event loop."""

    def __init__(self, shim: Shim, address: str, dropped_lines: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        self.calls = CallMetrics(self._registry)
        self._registry.register(ShimCollector(shim, dropped_lines))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self._shim = shim
        self._address = address
        self._pages = MetricsPages(CONTENT_TYPE_LATEST, self._text)
        self._asking_runtime: asyncio.Task[object] | None = None
        self._runtime_asked_at = float("-inf")
        self._acceptor: Acceptor | None = None
        self._opening: asyncio.Task[None] | None = None
        self._lookups = Lookups()

    async def open(self) -> None:
        """Listen, at a name once it is looked up; what cannot be had is tried while all else goes.

        It waits for nothing.
        """
        self._ask_runtime()
        self._opening = asyncio.create_task(self._open())
        await asyncio.sleep(0)  # there is one at an address that can be had, then

    async def _open(self) -> None:
        host, _, port = self._address.rpartition(":")
        told = False
        while self._acceptor is None:
            try:
                address = await self._looked_up(host.strip("[]"), told=told)
                self._accept(_listen(address, int(port)))
            except _NOT_HAD as error:
                if not told:
                    log.error(
                        "metrics address %s: %s; there are no metrics until it can be had",
                        self._address,
                        getattr(error, "strerror", None) or error,
                    )
                told = True
                await asyncio.sleep(_AGAIN_S)

    async def _looked_up(self, host: str, *, told: bool) -> str:
        """The host's first address; a lookup that takes long is told."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SLOW_S):
                return (await self._lookups.addresses(host))[0]
        if not told:
            log.warning("metrics address %s: its name is being looked up", self._address)
        try:
            async with asyncio.timeout(_LOOKUP_S):
                return (await self._lookups.addresses(host))[0]
        except TimeoutError as error:
            raise OSError(not_in_time(host)) from error

    def _accept(self, listening: socket.socket) -> None:
        self._acceptor = Acceptor(
            listening, lambda _: self._pages.protocol(), self._pages.room, "metrics"
        )
        self._socket = listening
        log.info("metrics at http://%s/metrics", self._address)

    def _text(self) -> Iterator[bytes]:
        """Prometheus' text format, a family at a time.

        Nobody is waited for: what is old is asked for anew, and the next text has the news.
        """
        self._shim.generations.current.registries.begin_look(_STATE_OLD_S)
        self._ask_runtime()
        for metric in self._registry.collect():
            yield generate_latest(_Collected(metric))

    def _ask_runtime(self) -> None:
        now = time.monotonic()
        if now - self._runtime_asked_at >= _RUNTIME_OLD_S:
            self._runtime_asked_at = now
            self._asking_runtime = asyncio.create_task(self._shim.runtime_report())

    def close(self) -> None:
        """Stop serving; calls are counted on, and it may be opened again."""
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        if self._acceptor is not None:
            self._acceptor.close()
            self._acceptor = None
            self._socket.close()
        if self._asking_runtime is not None:
            self._asking_runtime.cancel()
            self._asking_runtime = None
        self._pages.close()


class _Collected(CollectorRegistry):
    """One family that has been read already, as `generate_latest` wants it."""

    def __init__(self, metric: Metric) -> None:
        super().__init__()
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        yield self._metric


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket at an address; at `::`, on every one of both families."""
    if host == "::" and socket.has_dualstack_ipv6():
        listening = socket.create_server(
            ("", port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True
        )
    else:
        (family, _, _, _, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )
        listening = socket.create_server(address, family=family, backlog=_BACKLOG)
    listening.setblocking(False)
    return listening


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"image_cri_shim_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"image_cri_shim_{name}", text, value=value)
