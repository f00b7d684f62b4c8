"""Calls of every kind that go on while something is done to the nodes, and those that failed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from .bed import Bed
from .cluster_node import ClusterNode
from .process import Process
from .stock_node import SHIM

# Says each second that it is there: a stream that was cut says nothing more.
TICKS = "i=0; while sleep 1; do i=$((i+1)); echo $i; done"
# In turn: what kubelet asks all the time, and a pull with its removal.
CALLS = f"""\
while :; do
  for words in version ps pods images "pull library/load:1" "rmi library/load:1"; do
    if told=$(crictl -r {SHIM} -i {SHIM} -t 60s $words 2>&1); then
      echo "ok $words"
    else
      echo "failed $words: $told"
    fi
  done
done
"""
REPOSITORY, TAG = "library/load", "1"


class Load:
    """For each node an exec stream, a loop of calls and, where there are some, its events.

    Without `calls` there is nothing but the pulls that are asked for.
    """

    def __init__(
        self, bed: Bed, app: str, folder: Path, *, events: bool = True, calls: bool = True
    ) -> None:
        self._folder = folder
        self._streams: list[Process] = []
        self._calls: list[Process] = []
        self._pulls: list[Process] = []
        if calls:
            self._begin(bed, app, events=events)

    def _begin(self, bed: Bed, app: str, *, events: bool) -> None:
        for pod in bed.pods("-l", f"app={app}"):
            words = ("exec", pod["metadata"]["name"], "--", "sh", "-c", TICKS)
            self._add(self._streams, "exec", bed.plane.kubectl_command(*words))
        watch = bed.plane.kubectl_command("get", "pods", "--watch", "-o", "name")
        self._add(self._streams, "watch", watch)
        for node in bed.nodes:
            self._add(self._calls, f"calls on {node.name}", _on(node, "sh", "-c", CALLS))
            if events and node.release.version >= (1, 7):  # 1.6 has no events
                self._add(self._streams, "events", _crictl(node, "events"))

    def pull(self, node: ClusterNode, image: str) -> None:
        """A pull that is under way until it ends by itself."""
        self._add(self._pulls, f"pull on {node.name}", _crictl(node, "pull", image))

    def wait_for_pulls(self, timeout_s: float) -> None:
        """Until all of them have ended, well or not."""
        for pull in self._pulls:
            pull.wait(timeout_s)

    @property
    def pulling(self) -> int:
        """How many of them are under way."""
        return sum(pull.running for pull in self._pulls)

    def stop(self) -> list[str]:
        """Everything that failed: calls, pulls, and streams that ended before this."""
        failed = [each.tail(3) for each in (*self._streams, *self._calls) if not each.running]
        failed += [each.tail(3) for each in self._pulls if not each.running and each.exit_status]
        lines = [line for each in self._calls for line in each.text().splitlines()]
        self.close()
        return failed + [line for line in lines if line.startswith("failed ")]

    def close(self) -> None:
        """Ends what still runs."""
        for each in (*self._streams, *self._calls, *self._pulls):
            each.kill()

    @property
    def answered(self) -> int:
        """How many calls went well."""
        return sum(each.text().count("ok ") for each in self._calls)

    @property
    def ticks(self) -> list[int]:
        """How many seconds each exec stream has counted."""
        return [len(each.text().splitlines()) for each in self._streams if each.name == "exec"]

    def _add(self, kind: list[Process], name: str, command: list[str]) -> None:
        number = len(self._streams) + len(self._calls) + len(self._pulls)
        process = Process(name, command, self._folder / f"load-{number}.log")
        process.start()
        kind.append(process)


@contextlib.contextmanager
def load(
    bed: Bed, app: str, folder: Path, *, events: bool = True, calls: bool = True
) -> Iterator[Load]:
    """It goes on inside the block, on the pods with that label `app`."""
    going = Load(bed, app, folder, events=events, calls=calls)
    try:
        yield going
    finally:
        going.close()


def _crictl(node: ClusterNode, *words: str) -> list[str]:
    """The command line of crictl on the node's shim; a pull may take a quarter of an hour."""
    return _on(node, "crictl", "-r", SHIM, "-i", SHIM, "-t", "900s", *words)


def _on(node: ClusterNode, *command: str) -> list[str]:
    """A command line that ends with the process that entered the node."""
    return node.entering("setpriv", "--pdeathsig", "KILL", "--", *command)
