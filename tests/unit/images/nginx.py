"""Pulls of nginx: its names, and the benches of most tests."""

from __future__ import annotations

from shimcore.config import Names
from shimcore.pb import cri_pb2
from shimcore.registry.answers import Outcome
from tests.unit.images.fakes import (
    DIGEST,
    HUB,
    MIRROR,
    Bench,
    FakeRegistries,
    FakeRuntime,
    config_of,
    pull_request,
)

NGINX = "docker.io/library/nginx:latest"
NGINX_DIGEST = f"docker.io/library/nginx@{DIGEST}"
AT_HUB = f"{HUB}/library/nginx:latest"
AT_MIRROR = f"{MIRROR}/library/nginx:latest"
HUB_DIGEST = f"{HUB}/library/nginx@{DIGEST}"
CALLERS = {"username": "kubelet", "password": "callers-own-secret"}


def both() -> FakeRegistries:
    """The hub and the mirror have every image."""
    return FakeRegistries({HUB: Outcome.FOUND, MIRROR: Outcome.FOUND})


def bench_of(mode: Names, *, store: bool = True) -> Bench:
    """A node where the hub has every image."""
    return Bench(
        config=config_of(names=mode),
        registries=FakeRegistries({HUB: Outcome.FOUND}),
        runtime=FakeRuntime(store=store),
    )


def for_pod(name: str, annotations: dict[str, str], namespace: str = "default") -> bytes:
    """A pull of nginx for a pod with these annotations."""
    request = cri_pb2.PullImageRequest.FromString(pull_request("nginx"))
    request.sandbox_config.metadata.name = name
    request.sandbox_config.metadata.namespace = namespace
    request.sandbox_config.annotations.update(annotations)
    return request.SerializeToString()
