"""crictl, the command that operators have, run on one socket."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Ran:
    """What one run of crictl came to."""

    status: int
    out: str
    err: str


class Crictl:
    """Runs crictl with both endpoints on `socket`; files that it needs go into `directory`."""

    def __init__(self, socket: Path, directory: Path, timeout_s: float = 60) -> None:
        self.socket = socket
        self.directory = directory
        self.timeout_s = timeout_s
        directory.mkdir(parents=True, exist_ok=True)
        self._config = directory / "crictl.yaml"
        self._config.write_text("")
        self._serial = 0

    def run(self, *arguments: str | Path, timeout_s: float | None = None) -> Ran:
        """Whatever comes of it, errors included."""
        limit_s = timeout_s or self.timeout_s
        endpoint = f"unix://{self.socket}"
        command = ["crictl", "--config", str(self._config), "-r", endpoint, "-i", endpoint]
        ran = subprocess.run(
            [*command, "--timeout", f"{limit_s:g}s", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=limit_s + 30,
        )
        return Ran(ran.returncode, ran.stdout, ran.stderr)

    def ok(self, *arguments: str | Path, timeout_s: float | None = None) -> str:
        """Its standard output; an AssertionError with its errors when it fails."""
        ran = self.run(*arguments, timeout_s=timeout_s)
        assert ran.status == 0, f"crictl {' '.join(map(str, arguments))}: {ran.err or ran.out}"
        return ran.out

    def json(self, *arguments: str | Path) -> Any:
        """The parsed answer of a command that knows `-o json`."""
        return json.loads(self.ok(*arguments, "-o", "json"))

    def pull(self, image: str, *, credentials: str = "", timeout_s: float | None = None) -> Ran:
        login = ["--creds", credentials] if credentials else []
        return self.run("pull", *login, image, timeout_s=timeout_s)

    def inspecti(self, image: str) -> dict[str, Any] | None:
        """The `status` of an image, or None when the runtime does not have it."""
        ran = self.run("inspecti", "-o", "json", image)
        if ran.status != 0:
            assert "no such image" in ran.err.lower(), ran.err
            return None
        status: dict[str, Any] = json.loads(ran.out)["status"]
        return status

    def run_pod(self, name: str) -> str:
        """The id of a new pod sandbox on the node's network."""
        return self.ok("runp", self._write(f"pod-{name}", pod_config(name, self.directory))).strip()

    def create(self, pod: str, name: str, image: str, command: list[str]) -> str:
        """The id of a new container of that pod."""
        container = self._write(f"container-{name}", container_config(name, image, command))
        sandbox = self._write(f"pod-{name}", pod_config(name, self.directory))
        return self.ok("create", pod, container, sandbox).strip()

    def _write(self, name: str, value: dict[str, Any]) -> Path:
        self._serial += 1
        path = self.directory / f"{name}-{self._serial}.json"
        path.write_text(json.dumps(value))
        return path


def pod_config(name: str, directory: Path) -> dict[str, Any]:
    """A PodSandboxConfig without a network of its own (namespace option NODE = 2)."""
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "namespace": "e2e", "attempt": 0},
        "log_directory": str(directory / "logs" / name),
        "linux": {"security_context": {"namespace_options": {"network": 2}}},
    }


def container_config(name: str, image: str, command: list[str]) -> dict[str, Any]:
    """A ContainerConfig whose image is named as kubelet names it."""
    return {
        "metadata": {"name": name, "attempt": 0},
        "image": {"image": image, "user_specified_image": image},
        "command": command,
        "log_path": f"{name}.log",
        "linux": {},
    }
