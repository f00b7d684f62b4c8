"""Two hundred pulls at once for forty images."""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.conftest import Shims
from tests.e2e.support import images
from tests.e2e.support.cri_client import CriClient
from tests.e2e.support.process import wait_for
from tests.e2e.support.recorder import Recorder, Seen
from tests.e2e.support.registry import Registry
from tests.e2e.support.report import NOTES
from tests.e2e.support.shim import Shim

pytestmark = pytest.mark.e2e

IMAGES = 40
CALLS_EACH = 5
CONNECTIONS = 4
# Idle connections that the shim's registry client keeps for its next question.
KEPT_ALIVE = 8


def push_many(registry: Registry, prefix: str, count: int) -> list[str]:
    """Names of new small images on that registry."""
    names = [f"{prefix}-{number}" for number in range(count)]
    with registry.pusher() as pusher:
        for name in names:
            pusher.push(images.small(name), f"library/{name}", "1")
    return [f"{name}:1" for name in names]


def questions(hub: Recorder) -> dict[str, list[Seen]]:
    """The shim's own questions about manifests, by path, in the order of their start."""
    asked: dict[str, list[Seen]] = defaultdict(list)
    for seen in sorted(hub.seen, key=lambda one: one.started):
        if not seen.by_runtime and "/manifests/" in seen.path and seen.status != 401:
            asked[seen.path].append(seen)
    return asked


def pull_all(shim: Shim, names: list[str]) -> list[str]:
    """The references that one call for each name is answered with, all calls at once."""
    clients = [CriClient(shim.socket) for _ in range(CONNECTIONS)]
    calls = list(zip(names, itertools.cycle(clients), strict=False))
    with ThreadPoolExecutor(len(calls)) as pool:
        answers = list(pool.map(lambda call: call[1].pull(call[0]), calls))
    for client in clients:
        client.close()
    return answers


def test_two_hundred_pulls_of_forty_images(
    shims: Shims, hub_config: dict[str, Any], hub: Recorder, registry: Registry
) -> None:
    """All succeed, and no question is asked twice at the same time."""
    names = push_many(registry, "many", IMAGES)
    shim = shims.serve(hub_config)
    hub.clear()
    hub.delay_s = 0.02
    started = time.monotonic()
    answers = pull_all(shim, names * CALLS_EACH)
    NOTES.append(f"{len(answers)} pulls of {IMAGES} images: {time.monotonic() - started:.1f} s")
    assert len(answers) == IMAGES * CALLS_EACH
    assert len(set(answers)) == IMAGES, "an image has one reference, whoever asked"
    asked = questions(hub)
    assert len(asked) == IMAGES
    for path, same in asked.items():
        for earlier, later in itertools.pairwise(same):
            assert later.started >= earlier.ended, path
    originals = {f"docker.io/library/{name}" for name in names}
    with CriClient(shims.runtime.socket) as node:
        store = set(node.store())
        assert originals <= store
        assert not [name for name in store if name.startswith(hub.host)]


def test_descriptors_come_back(
    shims: Shims, hub_config: dict[str, Any], registry: Registry
) -> None:
    """After two hundred pulls only kept-alive registry connections stay; more pulls add none."""
    names = push_many(registry, "again", 2 * IMAGES)
    shim = shims.serve(hub_config)
    pull_all(shim, ["nginx:latest"])
    before = shim.open_files()
    pull_all(shim, names[:IMAGES] * CALLS_EACH)
    wait_for("the descriptors", lambda: shim.open_files() <= before + KEPT_ALIVE, 10)
    pull_all(shim, names[IMAGES:] * CALLS_EACH)
    wait_for("the descriptors", lambda: shim.open_files() <= before + KEPT_ALIVE, 10)
