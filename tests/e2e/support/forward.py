"""A TCP port in front of a Unix socket, byte for byte: for tools that speak TCP alone."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

CHUNK_BYTES = 65_536


class Forward:
    """Listens on a port of 127.0.0.1; every connection gets one of its own to the socket."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Listens no more; connections end by themselves."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listening.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as runtime:
            try:
                runtime.connect(str(self._target))
            except OSError:
                return
            back = threading.Thread(target=_pump, args=(runtime, client), daemon=True)
            back.start()
            _pump(client, runtime)
            back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Copies until the end, and tells the target of it."""
    with contextlib.suppress(OSError):
        while chunk := source.recv(CHUNK_BYTES):
            target.sendall(chunk)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
