"""The shim is killed at random points of many pulls; no image loses its plain name."""

from __future__ import annotations

import os
import random
import threading
import time
from typing import Any

import pytest

from tests.e2e.conftest import Shims
from tests.e2e.support.cri_client import CallError, CriClient
from tests.e2e.support.recorder import Recorder
from tests.e2e.support.registry import Registry
from tests.e2e.support.report import NOTES
from tests.e2e.support.shim import Shim
from tests.e2e.test_parallel import push_many

pytestmark = [pytest.mark.e2e, pytest.mark.releases]

# `E2E_KILLS` sets another number of pulls; hundreds take some minutes.
PULLS = int(os.environ.get("E2E_KILLS", "60"))
PULLS_A_KILL = 3
# In usual pulls: a shim that has just started is slower than the one that was measured.
KILL_AFTER = (0.1, 2.0)
SEED = int(os.environ.get("E2E_SEED", "0")) or random.SystemRandom().randrange(1 << 30)


def pull_quietly(shim: Shim, image: str) -> None:
    """A pull whose connection may break at any time."""
    with CriClient(shim.socket, timeout_s=20) as client:
        try:
            client.pull(image)
        except CallError:
            return


def usual_pull_s(shim: Shim, names: list[str]) -> float:
    """Seconds that a few pulls at once take when nobody is killed: the middle of three."""
    took_s = []
    for first in range(0, len(names), PULLS_A_KILL):
        started = time.monotonic()
        run_all(shim, names[first : first + PULLS_A_KILL])
        took_s.append(time.monotonic() - started)
    return sorted(took_s)[len(took_s) // 2]


def run_all(shim: Shim, names: list[str]) -> None:
    """Pulls them all at once, to their ends."""
    threads = [threading.Thread(target=pull_quietly, args=(shim, name)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def kill_during(shim: Shim, names: list[str], after_s: float) -> None:
    """Pulls `names` at once and kills the shim `after_s` seconds into it."""
    killer = threading.Timer(after_s, shim.kill)
    killer.start()
    run_all(shim, names)
    killer.join()


def test_names_survive_kills(
    shims: Shims, hub_config: dict[str, Any], hub: Recorder, registry: Registry
) -> None:
    """Each image that containerd has is found by its plain name, through a new shim, offline."""
    chance = random.Random(SEED)
    names = push_many(registry, "kill", PULLS)
    warm = push_many(registry, "warm", 3 * PULLS_A_KILL)
    shim = shims.serve(hub_config)
    usual_s = usual_pull_s(shim, warm)
    shim.kill()
    for first in range(0, PULLS, PULLS_A_KILL):
        shim.serve()
        if chance.random() < 0.5:  # the hub is proven: the calls go straight on
            pull_quietly(shim, warm[0])
        batch = names[first : first + PULLS_A_KILL]
        kill_during(shim, batch, chance.uniform(*KILL_AFTER) * usual_s)
    registry.stop()
    after = shims.serve({**hub_config, "timeout": "5s"})
    with CriClient(shims.runtime.socket) as node, CriClient(after.socket) as client:
        pulled = [n for n in names if node.image_status(f"{hub.host}/library/{n}") is not None]
        unnamed = [n for n in pulled if node.image_status(n) is None]
        lost = [name for name in pulled if client.image_status(name) is None]
        NOTES.append(
            f"kills (seed {SEED}): {PULLS} pulls, {-(-PULLS // PULLS_A_KILL)} kills within "
            f"{usual_s * KILL_AFTER[1]:.2f} s, {len(pulled)} images pulled, {len(unnamed)} of them "
            f"not yet named when the shim died, {len(lost)} lost"
        )
        assert not lost, f"seed {SEED}"
        assert pulled, "no pull was finished: the kills came too early"
        wait_until_named(node, unnamed)


def wait_until_named(node: CriClient, names: list[str]) -> None:
    """The question about an image has mended its name in containerd itself."""
    for name in names:
        node.wait_for_image(name)
