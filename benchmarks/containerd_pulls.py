"""What a pull through the shim costs beside one that containerd makes by its own mirror.

`python -m benchmarks.containerd_pulls` (root; containerd, docker-registry and crictl as for
`make e2e`). Both sides have the same registry, login, image and client, in turn; the order
changes with every round. `direct` pulls docker.io's name on containerd's own socket, which
certs.d sends to the hub. Figures are medians; the shim's own is that of the differences.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.support import images
from tests.e2e.support.containerd import RELEASES, Containerd, Release
from tests.e2e.support.cri_client import CriClient
from tests.e2e.support.registry import Registry
from tests.e2e.support.shim import Shim

LOGIN = "hub-user:hub-pass"
USERNAME, _, PASSWORD = LOGIN.partition(":")
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Bed:
    """A containerd, a hub with htpasswd, a shim, and a client on either socket."""

    hub: Registry
    direct: CriClient
    shim: CriClient

    def pull(self, side: str, image: str) -> float:
        """Seconds of one pull."""
        started = time.perf_counter()
        if side == "direct":
            self.direct.pull(image, username=USERNAME, password=PASSWORD)
        else:
            self.shim.pull(image)
        return time.perf_counter() - started

    def round(self, number: int, image: str, *, remove: bool) -> dict[str, float]:
        """Seconds of a pull on each side, the first one alternating."""
        took_s = {}
        for side in ("direct", "shim") if number % 2 else ("shim", "direct"):
            took_s[side] = self.pull(side, image)
            if remove:
                self.direct.remove_image(image)
        return took_s


@contextmanager
def bed(release: Release) -> Iterator[Bed]:
    place = Path(tempfile.mkdtemp(prefix="cri-bench-"))
    hub = Registry(place / "hub", login=LOGIN)
    node = Containerd(place / "node", sandbox_image="pause:none", release=release)
    shim = Shim(place / "shim", node.socket, {"address": hub.address, "auth": LOGIN})
    try:
        hub.serve()
        node.serve()
        node.route("docker.io", hub.address)
        shim.serve()
        with CriClient(node.socket) as direct, CriClient(shim.socket) as via:
            yield Bed(hub, direct, via)
    finally:
        shim.stop()
        node.close()
        hub.stop()
        shutil.rmtree(place, ignore_errors=True)


def warm(on: Bed, rounds: int) -> list[dict[str, float]]:
    """An image that is there, pulled again and again."""
    on.hub.push(images.layered("warm", 100_000, 100_000), "library/warm", "1")
    for side in ("direct", "shim") * 5:
        on.pull(side, "warm:1")
    return [on.round(number, "warm:1", remove=False) for number in range(rounds)]


def cold(on: Bed, rounds: int) -> list[dict[str, float]]:
    """A new image of three layers of 20 MiB in each round."""
    on.hub.push(images.small("first"), "library/first", "1")
    on.round(0, "first:1", remove=True)
    taken = []
    for number in range(rounds):
        on.hub.push(
            images.layered(f"cold-{number}", *[20 * MIB] * 3), f"library/cold-{number}", "1"
        )
        taken.append(on.round(number, f"cold-{number}:1", remove=True))
    return taken


def row(name: str, taken: list[dict[str, float]]) -> str:
    """One line of the table, in milliseconds."""
    middle = {side: statistics.median(one[side] for one in taken) for side in ("direct", "shim")}
    more = statistics.median(one["shim"] - one["direct"] for one in taken)
    ratio = statistics.median(one["shim"] / one["direct"] for one in taken)
    figures = f"{middle['direct'] * 1e3:.1f} | {middle['shim'] * 1e3:.1f} | {more * 1e3:+.1f}"
    return f"| {name} | {len(taken)} | {figures} | {ratio:.3f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--warm", type=int, default=200, help="rounds of a warm pull")
    parser.add_argument("--cold", type=int, default=11, help="rounds of a cold pull")
    parser.add_argument("--release", choices=[one.name for one in RELEASES])
    options = parser.parse_args()
    print("| pull | rounds | direct ms | shim ms | more | ratio |\n|---|---|---|---|---|---|")
    for release in RELEASES:
        if options.release in {None, release.name}:
            with bed(release) as on:
                if options.warm:
                    print(row(f"warm, {release.name}", warm(on, options.warm)), flush=True)
                if options.cold:
                    print(row(f"cold, {release.name}", cold(on, options.cold)), flush=True)


if __name__ == "__main__":
    main()
