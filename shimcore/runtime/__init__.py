"""The container runtime, asked by the shim itself: its CRI calls, its image store, its socket.

Importing this package does not import grpc, which takes 100 ms; making a client does.
"""

from __future__ import annotations

from shimcore.runtime.client import RuntimeClient
from shimcore.runtime.detection import KNOWN_SOCKETS, detect_socket
from shimcore.runtime.errors import RuntimeCallError, SeveralRuntimesError, StatusCode
from shimcore.runtime.readiness import wait_for_socket, wait_until_ready
from shimcore.runtime.values import (
    Blob,
    Descriptor,
    ImageOnNode,
    ImageRecord,
    Ingest,
    RuntimeVersion,
)

__all__ = [
    "KNOWN_SOCKETS",
    "Blob",
    "Descriptor",
    "ImageOnNode",
    "ImageRecord",
    "Ingest",
    "RuntimeCallError",
    "RuntimeClient",
    "RuntimeVersion",
    "SeveralRuntimesError",
    "StatusCode",
    "detect_socket",
    "wait_for_socket",
    "wait_until_ready",
]
