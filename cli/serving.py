"""What `serve` does once its command line has been read. Imports nothing that reads those."""

from __future__ import annotations

from cli.exits import BAD_CONFIG, FAILED, OK, describe, say
from shimcore.errors import ConfigError, ShimError


def run_serve(path: str) -> int:
    """Serve with the configuration at `path`; the exit status."""
    from shimcore.cluster.starting import begin  # noqa: PLC0415 - a bad start is said at once

    try:
        start = begin(path)
        from shimcore.daemon.serve import serve  # noqa: PLC0415

        serve(path, start)
    except ConfigError as error:
        for line in describe(error):
            say(line)
        return BAD_CONFIG
    except ShimError as error:
        say(str(error))
        return FAILED
    return OK
