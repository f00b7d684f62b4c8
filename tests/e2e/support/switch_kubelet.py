"""Runs inside a booted tree and plays kubelet: asks the endpoint that it is told, all the time.

It ends when nobody answers at its start, as kubelet does, and says when nobody does later on.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import grpc

# While it is there, kubelet ends at its start where it is told to use the shim.
FAILS = Path("/opt/kubelet-fails")
CONFIG = Path("/var/lib/kubelet/config.yaml")
METHODS = ("Version", "Status", "ListPodSandbox")
EVERY_S = 0.5


def endpoint() -> str:
    """The flag's, which wins, or the file's."""
    for word in sys.argv[1:]:
        if word.startswith("--container-runtime-endpoint="):
            return word.partition("=")[2]
    for line in CONFIG.read_text().splitlines():
        if line.startswith("containerRuntimeEndpoint:"):
            return line.partition(":")[2].strip().strip('"')
    return "unix:///run/containerd/containerd.sock"


def main() -> None:
    """Ask until killed."""
    target = endpoint()
    print(f"asking {target}", flush=True)
    if FAILS.exists() and "image-cri-shim" in target:
        sys.exit("this kubelet never returns")
    options = (("grpc.default_authority", "localhost"), ("grpc.max_reconnect_backoff_ms", 500))
    answered = False
    with grpc.insecure_channel(target.replace("unix://", "unix:"), options=options) as channel:
        paths = [f"/runtime.v1.RuntimeService/{name}" for name in METHODS]
        calls: list[Any] = [channel.unary_unary(path) for path in paths]
        while True:
            for call in calls:
                try:
                    call(b"", timeout=5)
                    answered = True
                except grpc.RpcError as error:
                    answered = answered or error.code() is grpc.StatusCode.UNIMPLEMENTED
                    print(f"FAILED {error.code().name}: {error.details()}", flush=True)
                    if not answered:
                        sys.exit(1)
            time.sleep(EVERY_S)


if __name__ == "__main__":
    main()
