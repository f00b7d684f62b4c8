"""The texts that an installation writes: the units, and a configuration to fill in.

`files/` holds them as they are for the default settings (it is `contrib/systemd/`, too).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from shimcore.errors import ShimError
from shimcore.systemd import bypass
from shimcore.systemd.yamltext import scalar

SERVICE = "image-cri-shim.service"
SOCKET = "image-cri-shim.socket"
BYPASS = bypass.BYPASS
UNITS = "/etc/systemd/system"
"""Where an administrator's units are; they win over a package's."""
STATE_DIR = "/var/lib/image-cri-shim"
BYPASS_LINK = f"{STATE_DIR}/{bypass.LINK_NAME}"
_FOLDER = Path(__file__).with_name("files")
_NO_RUNTIME = "# cri: unix:///run/containerd/containerd.sock\n"


@dataclass(frozen=True, slots=True)
class UnitSettings:
    """What the units depend on; every path is absolute."""

    command: str = "/usr/local/bin/image-cri-shim"
    config_file: str = "/etc/image-cri-shim.yaml"
    shim_socket: str = "/run/image-cri-shim.sock"
    admin_socket: str = "/run/image-cri-shim.sock.admin"
    state_dir: str = STATE_DIR

    @property
    def writable(self) -> tuple[str, ...]:
        """Directories, beside the state directory, that the service creates files in."""
        sockets = (self.shim_socket, self.admin_socket)
        wanted = [str(PurePosixPath(modern(path)).parent) for path in sockets]
        if self.state_dir != STATE_DIR:
            wanted.append(self.state_dir)
        return tuple(dict.fromkeys(wanted))


def modern(path: str) -> str:
    """The path without the legacy directory /var/run, a link, which systemd warns about."""
    return path.removeprefix("/var") if path.startswith("/var/run/") else path


def service_text(settings: UnitSettings = UnitSettings()) -> str:
    """The service unit. Raises ShimError for a path that no unit can hold."""
    text = _usual(SERVICE)
    for usual, wanted in zip(_varying(UnitSettings()), _varying(settings), strict=True):
        text = text.replace(usual, wanted)
    return text


def bypass_text() -> str:
    """The unit that stands in for the service."""
    return _usual(BYPASS)


def socket_text(settings: UnitSettings = UnitSettings()) -> str:
    """The socket unit. Raises ShimError for a path that no unit can hold."""
    path = modern(settings.shim_socket)
    if len(path.encode(errors="surrogateescape")) > 107:  # sockaddr_un(7)
        raise ShimError(f"shim: {path} is longer than a socket's path can be (107 bytes)")
    if path.endswith((" ", "\\")):  # a blank would be left out, a backslash joins the next line
        raise ShimError(f"shim: {path!r}: a unit takes no path that ends so; choose another")
    listen = "ListenStream={}\n".format
    return _usual(SOCKET).replace(listen(UnitSettings().shim_socket), listen(_plain(path)))


def template(runtime_endpoint: str | None) -> str:
    """The configuration with `address` still to be filled in."""
    text = _usual("configuration.yaml")
    if runtime_endpoint is None:
        return text
    return text.replace(_NO_RUNTIME, f"cri: {scalar(runtime_endpoint)}\n")


def waiting(text: str, config_file: str) -> str:
    """The unit as a package has it: left alone by systemd until the configuration is there."""
    return text.replace("[Unit]\n", f"[Unit]\nConditionPathExists={config_file}\n", 1)


def _usual(name: str) -> str:
    """The file as it is for the default settings."""
    return (_FOLDER / name).read_text(encoding="utf-8")


def _varying(settings: UnitSettings) -> tuple[str, str]:
    """What of the service unit hangs on the settings: its command line, what it may write."""
    if any(character in settings.command for character in "\"'\\$"):
        raise ShimError(
            f"the command {settings.command}: systemd starts none whose path has a quote, a "
            "backslash or a $; make a link to it and name that with --command"
        )
    for key, path in (
        ("shim", settings.shim_socket),
        ("admin", settings.admin_socket),
        ("stateDir", settings.state_dir),
    ):
        if ".." in PurePosixPath(path).parts:
            raise ShimError(f"{key}: {path}: systemd takes no path with `..`; write it without")
    command, config = (
        _word(path.replace("$", "$$")) for path in (settings.command, settings.config_file)
    )
    writable = " ".join(_word(f"-{path}") for path in settings.writable)
    return f"{command} serve --file {config}", f"ReadWritePaths={writable}\n"


def _plain(text: str) -> str:
    """`%` doubled (systemd.unit(5), specifiers)."""
    if any(ord(each) < 32 or ord(each) == 127 or 0xD800 <= ord(each) < 0xE000 for each in text):
        raise ShimError(f"{text!r} has a control character, or is not UTF-8: no unit can hold it")
    return text.replace("%", "%%")


def _word(text: str) -> str:
    """One word of a command line or list (systemd.service(5), systemd.syntax(7))."""
    text = _plain(text)
    if not any(character in text for character in " \"'\\;"):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
