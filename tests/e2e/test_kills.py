"""The shim is killed at random points of pulls with overlapping names, and kubelet tries again."""

from __future__ import annotations

import os
import random
import statistics
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.conftest import Direct, Shims, on_node
from tests.e2e.support import images
from tests.e2e.support.cri_client import CallError, CriClient
from tests.e2e.support.process import NotReadyError, wait_for
from tests.e2e.support.recorder import Recorder
from tests.e2e.support.registry import Registry
from tests.e2e.support.report import NOTES
from tests.e2e.support.shim import Shim

pytestmark = [pytest.mark.e2e, pytest.mark.releases]

# `E2E_KILLS` sets another number of pulls; 300 take some minutes.
PULLS = int(os.environ.get("E2E_KILLS", "36"))
SEED = int(os.environ.get("E2E_SEED", "0")) or random.SystemRandom().randrange(1 << 30)
# In usual batches: a shim that has just started is slower than the one that was measured.
KILL_AFTER = (0.05, 1.5)
# kubelet's own backoff begins at 10 s; what is seen here is the same, sooner.
RETRY_S = (0.1, 0.2, 0.4, 0.8)
BATCH_LIMIT_S = 60
RECOVERY_S = 15

Pair = tuple[str, str]


def push_pairs(registry: Registry, prefix: str, count: int) -> list[Pair]:
    """Pulls of which two at a time overlap, on a registry that has their images.

    In turn: two names of one name on the hub, two tags of one digest, one name twice.
    """
    pairs = []
    with registry.pusher() as pusher:
        for number in range(count):
            name = f"{prefix}-{number}"
            image = images.small(name, 20_000)
            pusher.push(image, f"library/{name}", "1")
            pusher.push(image, f"library/{name}", "2")
            other = (f"quay.io/library/{name}:1", f"{name}:2", f"{name}:1")[number % 3]
            pairs.append((f"{name}:1", other))
    return pairs


class Kubelet:
    """Asks for an image, pulls it when it is not there, asks again; from the start when it fails.

    `lost`: images of which a pull was answered and that the next question did not find.
    """

    def __init__(self, shim: Shim) -> None:
        self.shim = shim
        self.lost: list[str] = []
        self.pulls = 0
        self.failures = 0
        self._lock = threading.Lock()

    def bring(self, image: str) -> None:
        """Returns when it is there."""
        ends_at = time.monotonic() + BATCH_LIMIT_S
        tries = 0
        while True:
            try:
                if self._try(image):
                    return
            except CallError:
                with self._lock:
                    self.failures += 1
            if time.monotonic() > ends_at:
                pytest.fail(f"{image} is not there after {BATCH_LIMIT_S} s, seed {SEED}")
            time.sleep(RETRY_S[min(tries, len(RETRY_S) - 1)])
            tries += 1

    def _try(self, image: str) -> bool:
        with CriClient(self.shim.socket, timeout_s=20) as client:
            if client.image_status(image) is not None:
                return True
            with self._lock:
                self.pulls += 1
            client.pull(image)
            if client.image_status(image) is None:
                with self._lock:
                    self.lost.append(image)
                return False
            return True

    def bring_all(self, names: list[str]) -> float:
        """Seconds until all are there, asked for at once."""
        started = time.monotonic()
        with ThreadPoolExecutor(len(names)) as pool:
            list(pool.map(self.bring, names))
        return time.monotonic() - started


def test_kills_leave_what_direct_pulls_leave(
    past: Direct,
    shims: Shims,
    hub_config: dict[str, Any],
    hub: Recorder,
    registry: Registry,
    node_client: CriClient,
) -> None:
    """No image is lost and none is doubled; names, targets and labels are those of direct pulls."""
    chance = random.Random(SEED)
    pairs = push_pairs(registry, "kill", PULLS // 2)
    warm = push_pairs(registry, "warm", 6)
    wanted = past.leaves(*(name for pair in [*pairs, *warm] for name in pair))
    shim = shims.serve(hub_config)
    kubelet = Kubelet(shim)
    usual_s = statistics.median(
        kubelet.bring_all([*first, *second])
        for first, second in zip(warm[::2], warm[1::2], strict=True)
    )
    kills = 0
    for first in range(0, len(pairs), 2):
        batch = [name for pair in pairs[first : first + 2] for name in pair]
        chance.shuffle(batch)
        after_s = chance.uniform(*KILL_AFTER) * usual_s
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(kubelet.bring_all, batch)
            time.sleep(after_s)
            shim.kill()
            kills += 1
            shim.serve()
            done.result()
    took_s = _recovered(node_client, wanted)
    store = on_node(node_client)
    views = Counter(view.id for view in node_client.images())
    NOTES.append(
        f"kills on {shims.runtime.release.name} (seed {SEED}): {PULLS} pulls of kubelet's, {kills} "
        f"kills within {usual_s * KILL_AFTER[1]:.2f} s, {kubelet.pulls} PullImage calls, "
        f"{kubelet.failures} calls failed, {len(kubelet.lost)} lost; {took_s:.1f} s until the "
        f"store is that of direct pulls ({len(set(store.items()) ^ set(wanted.items()))} names not)"
    )
    assert not kubelet.lost, f"seed {SEED}"
    assert max(views.values()) == 1
    surplus, missing = store.keys() - wanted.keys(), wanted.keys() - store.keys()
    assert not surplus, f"seed {SEED}: {surplus}\n{shim.tail(200)}"
    assert not missing, f"seed {SEED}: {missing}"
    assert store == wanted, f"seed {SEED}"
    listed = {name for view in node_client.images() for name in view.names}
    assert not [name for name in listed if hub.host in name]


def _recovered(node: CriClient, wanted: dict[str, Any]) -> float:
    """Seconds until the store is as wanted; what is given at most when it is not."""
    try:
        return wait_for("the store", lambda: on_node(node) == wanted, RECOVERY_S)
    except NotReadyError:
        return RECOVERY_S
