"""How many descriptors the process may have open, and how many of them are for connections."""

from __future__ import annotations

import contextlib
import resource

# As the unit has it. A container may be given a thousand million, which bounds nothing.
OPEN_FILES = 1 << 16
# For everything beside the clients' connections and theirs to the runtime: registries, files that
# are read, metrics, the admin socket, the log.
RESERVED = 256
# Where the limit is so low that nothing would be left.
_FEWEST = 16


def raise_limit() -> int:
    """Raise the soft limit of open files as far as it may be; the limit from now on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft if soft != resource.RLIM_INFINITY else OPEN_FILES
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return soft


def most_connections(limit: int) -> int:
    """How many clients can be served: two descriptors for each, and the reserve stays free."""
    return max((min(limit, OPEN_FILES) - RESERVED) // 2, _FEWEST)
