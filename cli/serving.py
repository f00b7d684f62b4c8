"""What `serve` does once its command line has been read. Imports nothing that reads those."""

from __future__ import annotations

import os

from cli.exits import OK, report
from shimcore.errors import ShimError


def run_serve(path: str) -> int:
    """Serve with the configuration at `path`; the exit status."""
    path = os.path.abspath(path)  # which is what others are told, and its last good copy has
    from shimcore.cluster.starting import begin  # noqa: PLC0415 - a bad start is said at once

    try:
        start = begin(path)
        from shimcore.daemon.serve import serve  # noqa: PLC0415

        serve(path, start)
    except ShimError as error:
        return report(error, points=False)
    return OK
