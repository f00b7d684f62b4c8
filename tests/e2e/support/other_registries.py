"""Registries that are not Debian's, as processes: distribution 3, Gitea, Pulp."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from .images import Pusher
from .process import Process, free_port, tcp_answers
from .registry import Registry
from .systemd_tree import BUILT

USER, PASSWORD = "robot", "s3cret:word"
LOGIN = f"{USER}:{PASSWORD}"
# Pulp's first user has a name of its own.
RENAMED = (
    "from django.contrib.auth import get_user_model as users;"
    f"users().objects.update(username={USER!r})"
)


class Distribution(Registry):
    """distribution 3; with an `upstream`, it fetches from there what it is asked for."""

    program = BUILT / "distribution/registry"
    # Below it are all repositories.
    prefix = ""
    # Whether there is anything for a node without a login.
    public = False

    def __init__(self, directory: Path, ip: str, upstream: Registry | None = None) -> None:
        self._upstream = upstream
        login = "" if upstream else LOGIN
        super().__init__(directory, login=login, ip=ip, name=f"{directory.name}.hub")
        self.command[0] = str(self.program)

    def _config(self) -> dict[str, Any]:
        config = super()._config()
        if self._upstream is None:
            return config
        user, _, password = self._upstream.login.partition(":")
        login = {"username": user, "password": password}
        return {**config, "proxy": {"remoteurl": self._upstream.address, **login}}


class _Tokens(Process):
    """A registry that asks for a token of its own realm."""

    prefix, realm = "", ""
    # Its challenge has a realm, so whoever has no login is told of public images.
    public = True

    def __init__(self, directory: Path, ip: str, command: Sequence[str | Path]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory, self.ip, self.port = directory, ip, free_port(ip)
        self.host = f"{directory.name}.hub:{self.port}"
        self.address = f"http://{self.host}"
        super().__init__(directory.name, command, directory / "log")

    def pusher(self, repository: str) -> Pusher:
        """An upload session for one repository."""
        place = f"http://{self.ip}:{self.port}"
        asked = {"service": self.host, "scope": f"repository:{repository}:pull,push"}
        login = httpx.BasicAuth(USER, PASSWORD)
        answer = httpx.get(f"{place}{self.realm}", params=asked, auth=login, trust_env=False)
        return Pusher(place, f"Bearer {answer.json()['token']}", host=self.host)

    def _listens(self) -> bool:
        return tcp_answers(self.port, self.ip)


class Gitea(_Tokens):
    """Gitea, with one user, whose packages only those see who log in."""

    program = BUILT / "gitea/gitea"
    prefix, realm = f"{USER}/", "/v2/token"

    def __init__(self, directory: Path, ip: str) -> None:
        config = directory / "app.ini"
        super().__init__(directory, ip, [self.program, "--config", config, "web"])
        config.write_text(
            "I_AM_BEING_UNSAFE_RUNNING_AS_ROOT = true\n"
            f"WORK_PATH = {directory}\n"
            f"[server]\nHTTP_ADDR = {ip}\nHTTP_PORT = {self.port}\nROOT_URL = {self.address}/\n"
            f"STATIC_ROOT_PATH = {self.program.parent}\nDISABLE_SSH = true\nOFFLINE_MODE = true\n"
            f"[database]\nDB_TYPE = sqlite3\nPATH = {directory}/gitea.db\n"
            f"[security]\nINSTALL_LOCK = true\nSECRET_KEY = {secrets.token_hex(16)}\n"
            "[service]\nDEFAULT_USER_VISIBILITY = private\n"
            "[packages]\nENABLED = true\n"
        )

    def serve(self) -> float:
        """Seconds until it accepts connections."""
        self._run("migrate")
        mail = ("--email", f"{USER}@e2e.test", "--must-change-password=false")
        self._run("admin", "user", "create", "--username", USER, "--password", PASSWORD, *mail)
        return self.start(self._listens, 60)

    def _run(self, *arguments: str) -> None:
        command = [*self.command[:3], *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"gitea {arguments[0]}: {done.stdout}{done.stderr}"


class Pulp(_Tokens):
    """Pulp; blobs and manifests come from another origin, to which it redirects."""

    program = BUILT / "pulp/venv/bin/pulpcore-api"
    realm = "/token/"

    def __init__(self, directory: Path, ip: str) -> None:
        super().__init__(directory, ip, [self.program, "--workers", "2"])
        self._content = free_port(ip)
        # A user of the database's own cannot look into the tests' folders.
        self._database = Path(tempfile.mkdtemp(prefix="pulp-db-"))
        self._env = self._environment = {"PULP_SETTINGS": str(self._settings())}
        self.command += ["--bind", f"{ip}:{self.port}"]
        self._others: list[Process] = []

    def _settings(self) -> Path:
        for name in ("media", "work", "tmp", "static"):
            (self.directory / name).mkdir()
        key, public = self.directory / "token.pem", self.directory / "token.pub"
        _openssl("ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", key)
        _openssl("ec", "-in", key, "-pubout", "-out", public)
        _openssl("rand", "-base64", "-out", self.directory / "fields.key", "32")
        database = {"ENGINE": "django.db.backends.postgresql", "HOST": str(self._database)}
        values = {
            "SECRET_KEY": secrets.token_hex(25),
            "CONTENT_ORIGIN": f"http://{self.directory.name}.hub:{self._content}",
            "DATABASES": {"default": {**database, "NAME": "postgres", "USER": "postgres"}},
            "DEPLOY_ROOT": str(self.directory),
            "MEDIA_ROOT": str(self.directory / "media"),
            "WORKING_DIRECTORY": str(self.directory / "work"),
            "FILE_UPLOAD_TEMP_DIR": str(self.directory / "tmp"),
            "STATIC_ROOT": str(self.directory / "static"),
            "DB_ENCRYPTION_KEY": str(self.directory / "fields.key"),
            "CACHE_ENABLED": False,
            "TOKEN_SERVER": f"{self.address}{self.realm}",
            "TOKEN_SIGNATURE_ALGORITHM": "ES256",
            "PUBLIC_KEY_PATH": str(public),
            "PRIVATE_KEY_PATH": str(key),
        }
        settings = self.directory / "settings.py"
        settings.write_text("".join(f"{name} = {value!r}\n" for name, value in values.items()))
        return settings

    def serve(self) -> float:
        """Seconds until it accepts connections."""
        self._serve_database()
        self._manage("migrate", "--noinput")
        self._manage("reset-admin-password", "--password", PASSWORD)
        self._manage("shell", "--command", RENAMED)
        self._beside("content", "--bind", f"{self.ip}:{self._content}")
        self._beside("worker")
        return self.start(self._works, 120)

    def stop(self, timeout_s: float = 20) -> int:
        """The exit status, once all of it has ended."""
        status = super().stop(timeout_s)
        for each in reversed(self._others):
            each.stop(timeout_s)
        shutil.rmtree(self._database)
        return status

    def _works(self) -> bool:
        """Whether somebody does what it is asked for, such as a push."""
        if not self._listens():
            return False
        place = f"http://{self.ip}:{self.port}/pulp/api/v3/status/"
        told = httpx.get(place, headers={"Host": self.host}, trust_env=False, timeout=30).json()
        return bool(told["online_workers"])

    def _serve_database(self) -> None:
        programs = max(Path("/usr/lib/postgresql").glob("*/bin"))
        shutil.chown(self._database, "postgres")
        user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        data = ["-D", f"{self._database}/data"]
        initial = [*user, f"{programs}/initdb", "--auth=trust", *data]
        subprocess.run(initial, check=True, capture_output=True)
        # A process that has become another user's does not die with its parent as before.
        serving = [*user, "--pdeathsig=KILL", f"{programs}/postgres", *data]
        where = ["-k", str(self._database), "-c", "listen_addresses="]
        database = Process("pulp's database", [*serving, *where], self.directory / "database.log")
        self._others.append(database)
        database.start((self._database / ".s.PGSQL.5432").exists)

    def _manage(self, *arguments: str) -> None:
        done = subprocess.run(
            [self.program.with_name("pulpcore-manager"), *arguments],
            env={**os.environ, **self._environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"pulpcore-manager {arguments[0]}: {done.stderr}"

    def _beside(self, name: str, *arguments: str) -> None:
        command = [str(self.program.with_name(f"pulpcore-{name}")), *arguments]
        log = self.directory / f"{name}.log"
        process = Process(f"pulp's {name}", command, log, self._environment)
        self._others.append(process)
        process.start()


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


OTHERS: tuple[type[Distribution | Gitea | Pulp], ...] = (Distribution, Gitea, Pulp)
