"""Entry point of `image-cri-shim [-f FILE] COMMAND`. Without a command it serves.

Nothing heavy is imported here, so that an interrupt while the rest loads is quiet, too.
"""

from __future__ import annotations

import os
import sys

COMMANDS = (
    "serve",
    "resolve",
    "check_registry",
    "status",
    "pull",
    "config",
    "install_service",
    "demo",
    "completions",
)
"""The modules of `cli/` with a `register(app)`, in the order in which help lists them."""


def run() -> None:
    """Run the command line and exit with its status."""
    # grpc's own remarks on connections that come and go are not for operators.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from cli.exits import INTERRUPTED, status_of  # noqa: PLC0415

    try:
        status = status_of(_command)
    except KeyboardInterrupt:
        status = INTERRUPTED
    sys.exit(status)


def _command() -> object:
    # A name that the terminal's encoding does not have shall not end the run.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    from cli.app import app  # noqa: PLC0415

    return app(prog_name="image-cri-shim", standalone_mode=False)
