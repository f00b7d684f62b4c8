"""A small container registry on the standard library, for those who have its login.

It serves what a pull needs (distribution-spec: `/v2/`, manifests, blobs).
"""

from __future__ import annotations

import json
import secrets
import sys
from base64 import b64decode
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from threading import Thread
from typing import Any, Self

from shimcore.demo.registry_images import ImageShelf

_POLL_S = 0.05


class DemoRegistry(ThreadingTCPServer):
    """One registry on a port of this machine, while its context lasts."""

    daemon_threads = True

    def __init__(self, user: str, password: str) -> None:
        super().__init__(("127.0.0.1", 0), _Exchange)
        self.login = f"{user}:{password}"
        self.images = ImageShelf()
        self.users: list[str] = []
        """Who asked, request by request; "" for one without a login."""
        self.host = f"127.0.0.1:{self.server_address[1]}"
        """`host:port` as it stands in image names."""
        self.address = f"http://{self.host}"

    def __enter__(self) -> Self:
        """Serve, in threads."""
        Thread(target=self.serve_forever, args=(_POLL_S,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the port."""
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nobody is left to tell where the other side is gone."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Exchange(BaseHTTPRequestHandler):
    """One connection."""

    server: DemoRegistry
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        login = self._login()
        self.server.users.append(login.partition(":")[0])
        if not secrets.compare_digest(login.encode(), self.server.login.encode()):
            self._refuse(HTTPStatus.UNAUTHORIZED, "UNAUTHORIZED")
        elif self.path == "/v2/":
            self._send(HTTPStatus.OK, "application/json", b"{}")
        else:
            self._content()

    def log_message(self, *_: object) -> None:
        pass

    def _login(self) -> str:
        """`user:password` (RFC 7617); "" without one."""
        scheme, _, value = self.headers.get("Authorization", "").partition(" ")
        return b64decode(value).decode() if scheme.lower() == "basic" else ""

    def _content(self) -> None:
        """Answer for `/v2/<repository>/manifests|blobs/<reference>`."""
        images = self.server.images
        named, _, reference = self.path.removeprefix("/v2/").rpartition("/")
        repository, _, kind = named.rpartition("/")
        if kind == "blobs" and reference in images.blobs:
            self._send(
                HTTPStatus.OK, "application/octet-stream", images.blobs[reference], reference
            )
        elif kind == "manifests" and (found := images.find(repository, reference)):
            digest, manifest = found
            self._send(HTTPStatus.OK, manifest.media_type, manifest.content, digest)
        else:
            self._refuse(HTTPStatus.NOT_FOUND, f"{kind.removesuffix('s').upper()}_UNKNOWN")

    def _refuse(self, status: HTTPStatus, code: str) -> None:
        """An error as the distribution specification words it."""
        body = json.dumps({"errors": [{"code": code, "message": status.phrase.lower()}]})
        self._send(status, "application/json", body.encode())

    def _send(self, status: HTTPStatus, media_type: str, body: bytes, digest: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        if digest:
            self.send_header("Docker-Content-Digest", digest)
        if status is HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", 'Basic realm="demo-registry"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
