"""A proxy in front of a registry: what was asked, when, with which credentials; and faults."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from typing import Any

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass(frozen=True, slots=True)
class Seen:
    """One request and its answer; times are `time.monotonic()`."""

    method: str
    path: str
    authorization: str
    user_agent: str
    started: float
    ended: float
    status: int

    @property
    def by_runtime(self) -> bool:
        return self.user_agent.startswith("containerd/")


@dataclass(frozen=True, slots=True)
class Pace:
    """How a body is sent: so many bytes a second (0: at once), then not a byte more."""

    bytes_s: int = 0
    stalls_after: int | None = None


STEP_BYTES = 32_768


class Recorder:
    """Passes requests to `upstream` (host:port) and keeps a note of each.

    Without an upstream it plays a public registry that wants a login and has no image.
    `fault` answers every request under `fault_prefix` with that status, after
    `fault_delay_s`, and asks nobody;
    `delay_s` is waited before each answer. `paces`: path → how its body is sent. `sent`: path →
    bytes of bodies that went out, those that the peer did not wait for included.
    """

    def __init__(self, upstream: str = "", address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self.upstream = upstream
        self.fault = 0
        self.fault_prefix = "/v2/"
        self.fault_delay_s = 0.0
        self.delay_s = 0.0
        self.seen: list[Seen] = []
        self.paces: dict[str, Pace] = {}
        self.sent: Counter[str] = Counter()
        self._moving = threading.Event()
        self._http = _Server(address, self._handler())
        self.port = self._http.server_port
        self.host = f"{address[0]}:{self.port}"
        self.address = f"http://{self.host}"
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def clear(self) -> None:
        self.seen.clear()
        self.fault, self.delay_s, self.fault_prefix = 0, 0.0, "/v2/"
        self.fault_delay_s = 0.0
        self.let_go()
        self.sent.clear()

    def let_go(self) -> None:
        """No body has a pace any more; those that stand still end, not whole."""
        self.paces.clear()
        self._moving.set()
        self._moving = threading.Event()

    def bytes_of(self, *digests: str) -> int:
        """Bytes of these blobs that went out."""
        sent = list(self.sent.items())  # which its threads add to
        return sum(n for path, n in sent if path.partition("?")[0].endswith(digests))

    def _send(self, path: str, body: bytes, wfile: BufferedIOBase) -> bool:
        """Whether the whole body went out."""
        pace, moving = self.paces.get(path.partition("?")[0]), self._moving
        step = STEP_BYTES if pace is not None else max(len(body), 1)
        for at in range(0, len(body), step):
            if pace is not None:
                if pace.stalls_after is not None and at >= pace.stalls_after:
                    moving.wait(300)
                    return False
                if pace.bytes_s:
                    moving.wait(step / pace.bytes_s)
            part = body[at : at + step]
            wfile.write(part)
            self.sent[path] += len(part)
        return True

    def credentials(self) -> set[str]:
        """Every Authorization value that came by."""
        return {seen.authorization for seen in self.seen if seen.authorization}

    def _answer(self, request: BaseHTTPRequestHandler) -> tuple[int, list[tuple[str, str]], bytes]:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        time.sleep(self.delay_s)
        if self.fault and request.path.startswith(self.fault_prefix):
            time.sleep(self.fault_delay_s)
            return self.fault, [], b'{"errors":[{"code":"UNAVAILABLE","message":"by the test"}]}'
        if self.upstream:
            return self._pass_on(request, body)
        if "Authorization" not in request.headers:
            challenge = ("WWW-Authenticate", 'Basic realm="public"')
            return 401, [challenge], b'{"errors":[{"code":"UNAUTHORIZED"}]}'
        return 404, [], b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}'

    def _pass_on(
        self, request: BaseHTTPRequestHandler, body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection(self.upstream, timeout=30)
        try:
            upstream.request(request.command, request.path, body or None, dict(request.headers))
            answer = upstream.getresponse()
            kept = [(k, v) for k, v in answer.getheaders() if k.lower() not in HOP_BY_HOP]
            if request.command == "HEAD" and (length := answer.getheader("Content-Length")):
                kept.append(("Content-Length", length))
            return answer.status, kept, answer.read()
        except OSError:
            return 502, [], b'{"errors":[{"code":"UNAVAILABLE","message":"nobody behind"}]}'
        finally:
            upstream.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # A TLS greeting gets a status line, as from other servers: containerd 2.x tries
            # https on a loopback address first and only then knows better.
            default_request_version = "HTTP/1.0"

            def _serve(self) -> None:
                started = time.monotonic()
                status, headers, body = recorder._answer(self)
                ended = time.monotonic()
                login, agent = (
                    self.headers.get(name, "") for name in ("Authorization", "User-Agent")
                )
                recorder.seen.append(
                    Seen(self.command, self.path, login, agent, started, ended, status)
                )
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                if self.command != "HEAD":
                    self.send_header("Content-Length", str(len(body)))
                elif not any(name == "Content-Length" for name, _ in headers):
                    self.send_header("Content-Length", "0")
                self.end_headers()
                if self.command != "HEAD" and not recorder._send(self.path, body, self.wfile):
                    self.close_connection = True

            do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


class _Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Peers may leave at any time; that is what some tests are about."""


class SilentListener:
    """A port that accepts connections and never answers: a registry that hangs."""

    def __init__(self, port: int = 0) -> None:
        self._socket = socket.create_server(("127.0.0.1", port), backlog=256)
        self.port = int(self._socket.getsockname()[1])
        self.host = f"127.0.0.1:{self.port}"
        self._held: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._held.append(self._socket.accept()[0])

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for connection in self._held:
            connection.close()
