"""Prometheus metrics: what an operator of many nodes wants to see, and never an image's name."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from shimcore import __version__
from shimcore.errors import ShimError
from shimcore.runtime import StatusCode

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

    from shimcore.daemon.shim import Shim

log = logging.getLogger("shimcore.daemon")

_CALL_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10, 60)
_PULL_SECONDS = (0.05, 0.25, 1, 5, 15, 30, 60, 120, 300, 600, 900)
_STATES = ("closed", "half-open", "open")
# A client may call anything; past this many names the rest are counted together.
_METHODS = 256
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
        self._methods: dict[bytes, str] = {}

    def began(self, path: bytes) -> None:
        """A call has begun."""
        if path.endswith(b"/PullImage"):
            self._pulls.inc()

    def ended(self, path: bytes, status: int, seconds: float) -> None:
        """A call is over, with its gRPC status."""
        code = _CODES.get(status, "other")
        method = self._method(path)
        self._calls.labels(method, code).inc()
        if path.endswith(b"/PullImage"):
            self._pulls.dec()
            self._pull_seconds.labels(code).observe(seconds)
        elif not path.endswith(b"/GetContainerEvents"):
            self._seconds.labels(method).observe(seconds)

    def _method(self, path: bytes) -> str:
        method = self._methods.get(path)
        if method is None:
            if len(self._methods) >= _METHODS:
                return "other"
            method = self._methods[path] = path.decode("ascii", "replace").lstrip("/")[:128]
        return method


class ShimCollector:
    """What the shim knows anyway, read when somebody asks."""

    def __init__(self, shim: Shim) -> None:
        self._shim = shim

    def collect(self) -> Iterator[Metric]:
        """One reading."""
        shim = self._shim
        generation = shim.generations.current
        stats = generation.images.stats()
        info = GaugeMetricFamily("image_cri_shim_info", "Always 1.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        yield from self._config()
        yield _gauge("connections_open", "Clients' connections.", len(shim.relay.connections))
        yield _gauge("decisions_in_work", "Held calls in work.", shim.relay.slots.taken)
        yield _gauge("held_bytes", "Request bytes that are held.", shim.relay.budget.used)
        yield _gauge("cache_entries", "Images remembered.", stats["entries"])
        yield _counter("cache_hits", "Questions answered from memory.", stats["hits"])
        yield _counter("cache_misses", "Questions that went to registries.", stats["misses"])
        rewrites = CounterMetricFamily(
            "image_cri_shim_rewrites",
            "Pulls through a registry; side: tried before the call went on.",
            labels=["registry", "outcome"],
        )
        for (host, outcome), count in stats["rewrites"].items():
            rewrites.add_metric([host, outcome], count)
        yield rewrites
        yield self._registry_states()

    def _config(self) -> Iterator[Metric]:
        shim = self._shim
        yield _gauge("config_generation", "Configurations put in force.", shim.generation_number)
        yield _gauge("config_valid", "1: the file can be used.", 0 if shim.config_fault else 1)
        yield _gauge("config_loaded_timestamp_seconds", "When it came into force.", shim.loaded_at)

    def _registry_states(self) -> Metric:
        generation = self._shim.generations.current
        now = generation.registries.states()
        states = GaugeMetricFamily(
            "image_cri_shim_registry_state",
            "1 for the state that a registry is in; open: failing, left alone for a moment.",
            labels=["registry", "state"],
        )
        for registry in generation.config.registries:
            current = now.get(registry.host, "closed")
            for state in _STATES:
                states.add_metric([registry.host, state], 1 if state == current else 0)
        return states


class MetricsServer:
    """Serves metrics at `address` (host:port) from a thread of its own."""

    def __init__(self, shim: Shim, address: str) -> None:
        self._registry = CollectorRegistry()
        self.calls = CallMetrics(self._registry)
        self._registry.register(ShimCollector(shim))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        host, _, port = address.rpartition(":")
        try:
            self._server, self._thread = _start(int(port), host.strip("[]"), self._registry)
        except OSError as error:
            raise ShimError(
                f"metrics address {address}: {error.strerror or error}; choose another one"
            ) from error
        log.info("metrics at http://%s/metrics", address)

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(1.0)


def _start(
    port: int, host: str, registry: CollectorRegistry
) -> tuple[WSGIServer, threading.Thread]:
    started: tuple[WSGIServer, threading.Thread] = start_http_server(port, host, registry)
    return started


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"image_cri_shim_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"image_cri_shim_{name}", text, value=value)
