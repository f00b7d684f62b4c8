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

from shimcore.config.state import StateError

BYPASS = "image-cri-shim-bypass.service"
# Whether and where it leads. In the directory that the unit's StateDirectory= makes.
LINK_NAME = "bypass"
# There while it runs (RuntimeDirectory=).
SIGN = "/run/image-cri-shim-bypass"
# When the service failed last, in seconds since the boot.
FAILURES = "/run/image-cri-shim.failures"


def keep_link(runtime_socket: str | None) -> None:
    """Let the bypass lead to this socket, or nowhere; only where systemd runs the process.

    Raises StateError.
    """
    folder = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    if not folder:
        return
    link = os.path.join(folder, LINK_NAME)
    try:
        if runtime_socket is not None:
            _lead(link, runtime_socket)
        elif os.path.lexists(link):
            os.unlink(link)
    except OSError as error:
        what, then = "be removed", "the bypass still runs, against onFailure"
        if runtime_socket is not None:
            what, then = f"lead to {runtime_socket}", "the bypass does not go there"
        text = f"{link}: it cannot {what}: {error.strerror or error}"
        raise StateError(f"{text}; if the shim does not start, {then}") from None


def _lead(link: str, runtime_socket: str) -> None:
    with contextlib.suppress(OSError):
        if os.readlink(link) == runtime_socket:
            return
    new = f"{link}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    os.symlink(runtime_socket, new)
    os.replace(new, link)
