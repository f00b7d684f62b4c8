"""What stands in for a shim that cannot start: its socket as plain bytes to the runtime.

Nothing here needs Python once it is installed. A link in the state directory leads to the
runtime's socket, made at each good start and by `install-service`; where `onFailure` is closed,
or nobody has been able to read the configuration yet, there is none, and no bypass.

When the service fails, its ExecStopPost counts. After the fifth time within a minute it starts the
bypass, to which systemd gives the same listening socket (`Sockets=`), so that nobody is refused in
between, and takes the service out of its automatic restarts. The bypass says so in the journal
each minute and tries the service twice a minute; the service, once it serves, ends the bypass.
"""

from __future__ import annotations

import contextlib
import os

BYPASS = "image-cri-shim-bypass.service"
# Whether and where it leads. In the directory that the unit's StateDirectory= makes.
LINK_NAME = "bypass"
# There while it runs (RuntimeDirectory=).
SIGN = "/run/image-cri-shim-bypass"
# When the service failed last, in seconds since the boot.
FAILURES = "/run/image-cri-shim.failures"


def keep_link(runtime_socket: str | None) -> None:
    """Let the bypass lead to this socket, or nowhere; only where systemd runs the process.

    Raises OSError.
    """
    folder = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    if not folder:
        return
    link = os.path.join(folder, LINK_NAME)
    if runtime_socket is None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(link)
        return
    with contextlib.suppress(OSError):
        if os.readlink(link) == runtime_socket:
            return
    new = f"{link}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    os.symlink(runtime_socket, new)
    os.replace(new, link)


def counting(link: str, service: str) -> str:
    """The command of the service's ExecStopPost=."""
    return _COUNTING.format(link=link, service=service, bypass=BYPASS, failures=FAILURES)


def bypass_text(link: str, service: str, socket: str) -> str:
    """The unit of the bypass."""
    return _BYPASS.format(link=link, service=service, socket=socket)


_COUNTING = """\
/bin/sh -c ' \\
  [ "$$SERVICE_RESULT" != success ] && [ -L {link} ] || exit 0; \\
  read -r now _ </proc/uptime; now=$${{now%%.*}}; \\
  [ ! -f "$$0" ] || read -r past <"$$0"; \\
  set -- $$past $$now; while [ $$# -gt 5 ]; do shift; done; echo "$$*" >"$$0"; \\
  systemctl --quiet is-active {bypass} || \\
    {{ [ $$# -eq 5 ] && [ $$((now - $$1)) -le 60 ] && systemctl start {bypass}; }} || exit 0; \\
  systemctl --quiet is-active {bypass} && systemctl --no-block stop {service}' {failures}"""

_BYPASS = """\
# Started by the fifth failure of {service} within a minute, ended when that one serves.
# To end both, stop the socket.

[Unit]
Description=Plain way to the container runtime while image-cri-shim cannot start
# The shim leaves this link to the runtime's socket, unless `onFailure` is closed.
ConditionPathIsSymbolicLink={link}
Requires={socket}
After={socket}
StartLimitIntervalSec=0

[Service]
Type=exec
# The very socket that the service listens on: no client is refused.
Sockets={socket}
ExecStart=/bin/sh -c ' \\
  while :; do \\
    echo "<4>image-cri-shim does not start (journalctl -u {service});" \\
      "its socket goes to the runtime as it is: no registry is looked in for images"; \\
    for _ in 1 2; do sleep 30; systemctl --no-block start {service}; done; \\
  done 3<&- & \\
  for each in /usr/lib/systemd /lib/systemd; do \\
    [ ! -x $$each/systemd-socket-proxyd ] || \\
      exec $$each/systemd-socket-proxyd --connections-max=1024 {link}; \\
  done; \\
  echo "<3>there is no systemd-socket-proxyd on this node"; exit 1'
Restart=always
RestartSec=1
TimeoutStopSec=10
# `status` looks for it.
RuntimeDirectory=image-cri-shim-bypass
SyslogIdentifier=image-cri-shim
# Six descriptors for each connection.
LimitNOFILE=65536
MemoryMax=128M
OOMScoreAdjust=-999

# Nothing that needs a place on a disk: it has to start when that is full.
CapabilityBoundingSet=
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
"""
