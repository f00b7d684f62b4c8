"""A small container registry on the standard library, for those who have its login.

It serves what a pull needs (distribution-spec: `/v2/`, manifests, blobs).
"""

from __future__ import annotations

import json
import secrets
import sys
from base64 import b64decode
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from threading import Thread
from typing import Any, Self

from shimcore.demo.registry_images import OCI_MANIFEST, digest_of, made

_POLL_S = 0.05


class DemoRegistry(ThreadingTCPServer):
    """One registry on a port of this machine, while its context lasts."""

    daemon_threads = True

    def __init__(self, user: str, password: str) -> None:
        super().__init__(("127.0.0.1", 0), _Exchange)
        self.login = f"{user}:{password}"
        self.content = {"/v2/": ("application/json", b"{}")}
        """By path: media type and bytes."""
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

    def add_image(self, repository: str, tag: str, content: bytes) -> str:
        """Put a one-layer image there and return its digest."""
        manifest, *blobs = made(content)
        digest = digest_of(manifest)
        for name in (tag, digest):
            self.content[f"/v2/{repository}/manifests/{name}"] = OCI_MANIFEST, manifest
        for blob in blobs:
            path = f"/v2/{repository}/blobs/{digest_of(blob)}"
            self.content[path] = "application/octet-stream", blob
        return digest

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
        elif self.path in self.server.content:
            self._send(HTTPStatus.OK, *self.server.content[self.path])
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "NAME_UNKNOWN")

    def log_message(self, *_: object) -> None:
        pass

    def _login(self) -> str:
        """`user:password` (RFC 7617); "" without one, or one that is no base64 of UTF-8."""
        scheme, _, value = self.headers.get("Authorization", "").partition(" ")
        with suppress(ValueError):
            return b64decode(value).decode() if scheme.lower() == "basic" else ""
        return ""

    def _refuse(self, status: HTTPStatus, code: str) -> None:
        """An error as the distribution specification words it."""
        body = json.dumps({"errors": [{"code": code, "message": status.phrase.lower()}]})
        self._send(status, "application/json", body.encode())

    def _send(self, status: HTTPStatus, media_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        if status is HTTPStatus.OK:
            self.send_header("Docker-Content-Digest", digest_of(body))
        elif status is HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", 'Basic realm="demo-registry"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
