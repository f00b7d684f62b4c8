"""The texts that an installation writes: the units, and a configuration to fill in. Pure.

`contrib/systemd/` holds them as they are for the default settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from shimcore.errors import ShimError
from shimcore.systemd import bypass
from shimcore.systemd.yamltext import scalar

SERVICE = "image-cri-shim.service"
SOCKET = "image-cri-shim.socket"
BYPASS = bypass.BYPASS
STATE_DIR = "/var/lib/image-cri-shim"
BYPASS_LINK = f"{STATE_DIR}/{bypass.LINK_NAME}"


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
    return _SERVICE.format(
        command=_word(settings.command.replace("$", "$$")),
        config=_word(settings.config_file.replace("$", "$$")),
        writable=" ".join(_word(f"-{path}") for path in settings.writable),
        bypass=BYPASS,
        counting=bypass.counting(BYPASS_LINK, SERVICE),
    )


def bypass_text() -> str:
    """The unit that stands in for the service."""
    return bypass.bypass_text(BYPASS_LINK, SERVICE, SOCKET)


def socket_text(settings: UnitSettings = UnitSettings()) -> str:
    """The socket unit. Raises ShimError for a path that no unit can hold."""
    path = modern(settings.shim_socket)
    if len(path.encode()) > 107:  # sockaddr_un(7)
        raise ShimError(f"shim: {path} is longer than a socket's path can be (107 bytes)")
    return _SOCKET.format(socket=_plain(path))


def template(shim_socket: str, runtime_endpoint: str | None) -> str:
    """The configuration with `address` still to be filled in."""
    if runtime_endpoint is None:
        cri = "# cri: unix:///run/containerd/containerd.sock"
    else:
        cri = f"cri: {scalar(runtime_endpoint)}"
    return _TEMPLATE.format(shim=scalar(shim_socket), cri=cri)


def waiting(text: str, config_file: str) -> str:
    """The unit as a package has it: left alone by systemd until the configuration is there."""
    return text.replace("[Unit]\n", f"[Unit]\nConditionPathExists={config_file}\n", 1)


def _plain(text: str) -> str:
    """`%` doubled (systemd.unit(5), specifiers)."""
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise ShimError(f"{text!r} has a control character and cannot stand in a unit")
    return text.replace("%", "%%")


def _word(text: str) -> str:
    """One word of a command line or list (systemd.service(5), systemd.syntax(7))."""
    text = _plain(text)
    if not any(character in text for character in " \"'\\;"):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


_SOCKET = """\
# The shim's listening socket. systemd holds it, so a client that connects while the service
# starts, restarts or has crashed waits instead of being refused. To end the shim altogether
# stop this unit: that stops the service as well.

[Unit]
Description=Socket of the image proxy between kubelet and the container runtime
Before=kubelet.service

[Socket]
ListenStream={socket}
SocketMode=0600
RemoveOnStop=yes
# A service that fails again and again must not take the socket away.
TriggerLimitIntervalSec=0

[Install]
WantedBy=sockets.target
"""

_SERVICE = """\
[Unit]
Description=Image proxy between kubelet and the container runtime
Requires=image-cri-shim.socket
After=image-cri-shim.socket network.target
After=containerd.service crio.service cri-docker.service
Before=kubelet.service
# kubelet cannot work without it: restarted for as long as it takes.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command} serve --file {config}
# A configuration with faults fails the reload, and the one in force stays.
ExecReload=/bin/sh -c 'exec "$$0" "$$@" >/dev/null' {command} serve --file {config} --dry-run
ExecReload=/bin/kill -HUP $MAINPID
# It serves, so nobody has to stand in for it any longer.
ExecStartPost=-+/bin/systemctl --no-block stop {bypass}
# Five failures within a minute: the bypass serves the socket, and tries the start from then on.
ExecStopPost=-+{counting}
Restart=always
RestartSec=1
# Ready when the socket serves and the runtime answers; `timeout` in the configuration bounds it.
TimeoutStartSec=infinity
# Running calls get 30 s to finish.
TimeoutStopSec=45
TimeoutAbortSec=10
WatchdogSec=30
# A process that has handed over to a newer one (`hand-over`) is left to end its calls.
KillMode=process
OOMPolicy=continue
SyslogIdentifier=image-cri-shim

# Two descriptors for each connection. No core files: they would hold passwords.
LimitNOFILE=65536
LimitCORE=0
# What a leak may take. Without one, at the very most (shimcore/relay/limits.py): 32 MiB of requests
# that are held or unanswered and 1 MiB for each of 64 connections, 64 MiB of its own, 64 MiB that
# the kernel counts for sockets. Besides, a process that has handed over: 60 MiB.
MemoryMax=320M
# Killed after every pod that uses more than it asked for, and before those whose memory is
# guaranteed (-997): it is back in a second, which a pod is not.
OOMScoreAdjust=-500

# It runs as root because the runtime's socket and kubelet's files are root's, and has none of
# root's powers over anything else.
StateDirectory=image-cri-shim
StateDirectoryMode=0700
UMask=0077
CapabilityBoundingSet=
AmbientCapabilities=
NoNewPrivileges=yes
# Where the admin socket and the lock of the shim's socket are made.
ReadWritePaths={writable}
ProtectSystem=strict
# Not hidden: a docker configuration or a virtual environment may be there.
ProtectHome=read-only
PrivateTmp=yes
PrivateMounts=yes
# In place of PrivateDevices=, which needs a directory in /tmp and so cannot be had on a full disk.
DevicePolicy=closed
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProcSubset=pid
RemoveIPC=yes
KeyringMode=private
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
Also=image-cri-shim.socket
"""

_TEMPLATE = """\
# Configuration of image-cri-shim. Keep it readable by root alone: it holds passwords.

# The registry to look in first. Required; without http:// it is https.
# address: http://sealos.hub:5000
address:

# Its login, user:password.
# auth: admin:passw0rd

# The socket that kubelet talks to.
shim: {shim}

# The container runtime's socket; when absent it is looked for.
{cri}

# More registries, best priority first.
# registries:
#   - address: https://registry.example:5000
#     auth: user:password
#     priority: 500

# Whether the original name may be pulled where no registry has the image: allow or deny.
# fallback: allow
"""
