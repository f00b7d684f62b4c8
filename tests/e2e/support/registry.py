"""Debian's docker-registry as a process: open, with htpasswd, over https or behind tokens."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

from .authority import Certificate, TokenServer
from .images import Image, Pusher
from .process import Process, free_port, tcp_answers


class Registry(Process):
    """One registry on a port of `ip`, its own unless it is given, over stop and start.

    With a `name`, that is what it is called; only who is told the name's address can use it.
    """

    def __init__(
        self,
        directory: Path,
        *,
        login: str = "",
        certificate: Certificate | None = None,
        tokens: TokenServer | None = None,
        ip: str = "127.0.0.1",
        name: str = "",
        port: int = 0,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.login = login
        self.certificate = certificate
        self.tokens = tokens
        self.ip = ip
        self.port = port or free_port(ip)
        default = self.port == (443 if certificate else 80)
        self.host = (name or ip) if default else f"{name or ip}:{self.port}"
        self.scheme = "https" if certificate else "http"
        self.address = f"{self.scheme}://{self.host}"
        config = directory / "config.json"  # JSON is YAML
        config.write_text(json.dumps(self._config()))
        super().__init__(
            f"registry {self.host}",
            ["docker-registry", "serve", config],
            directory / "log",
            env={"OTEL_TRACES_EXPORTER": "none"},
        )

    def _config(self) -> dict[str, Any]:
        http: dict[str, Any] = {"addr": f"{self.ip}:{self.port}", "relativeurls": True}
        if self.certificate:
            tls = {"certificate": self.certificate.certificate, "key": self.certificate.key}
            http["tls"] = {name: str(path) for name, path in tls.items()}
        config: dict[str, Any] = {
            "version": "0.1",
            "log": {"level": "info"},
            "storage": {
                "filesystem": {"rootdirectory": str(self.directory / "data")},
                "delete": {"enabled": True},
                "maintenance": {"uploadpurging": {"enabled": False}},
            },
            "http": http,
        }
        auth = self._auth()
        return {**config, "auth": auth} if auth else config

    def _auth(self) -> dict[str, Any]:
        if self.tokens:
            bundle = str(self.tokens.root_bundle)
            names = {"issuer": self.tokens.issuer, "service": self.tokens.service}
            return {"token": {"realm": self.tokens.realm, "rootcertbundle": bundle, **names}}
        if self.login:
            self.set_password(self.login.partition(":")[2])
            return {"htpasswd": {"realm": "e2e", "path": str(self.directory / "htpasswd")}}
        return {}

    def set_password(self, password: str) -> None:
        """Writes the one user's bcrypt line; the registry reads it again when it changes."""
        user = self.login.partition(":")[0]
        line = subprocess.run(
            ["htpasswd", "-nbB", "-C", "4", user, password], capture_output=True, check=True
        )
        (self.directory / "htpasswd").write_bytes(line.stdout)

    def serve(self) -> float:
        """Seconds until it accepts connections."""
        return self.start(lambda: tcp_answers(self.port, self.ip))

    def pusher(self, *repositories: str) -> Pusher:
        """An upload session; behind tokens it may write to `repositories` only."""
        ca = self.certificate.ca if self.certificate else None
        authorization = ""
        if self.tokens:
            scopes = [f"repository:{name}:pull,push" for name in repositories]
            authorization = f"Bearer {self.tokens.issue(scopes)}"
        elif self.login:
            authorization = f"Basic {base64.b64encode(self.login.encode()).decode()}"
        return Pusher(f"{self.scheme}://{self.ip}:{self.port}", authorization, ca)

    def push(self, image: Image, repository: str, tag: str) -> None:
        """One image; with many, keep one `pusher()` open."""
        with self.pusher(repository) as pusher:
            pusher.push(image, repository, tag)

    def lose_blob(self, digest: str) -> None:
        """Deletes a blob's bytes from the storage: the manifest stays, the blob is 404."""
        value = digest.removeprefix("sha256:")
        blobs = self.directory / "data" / "docker/registry/v2/blobs/sha256"
        (blobs / value[:2] / value / "data").unlink()
