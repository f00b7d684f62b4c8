"""Whether there are enough threads."""

from __future__ import annotations

import os
import threading

from shimcore.errors import ShimError


def need_threads() -> None:
    """Raises ShimError where this process cannot have as many threads as gRPC starts.

    Those are one for each processor, 4 to 16 (`PosixEventEngine`), and three more; gRPC itself ends
    the process where it does not get them, without a word.
    """
    wanted = 3 + min(max(os.cpu_count() or 1, 4), 16)
    started: list[threading.Thread] = []
    may_end = threading.Event()
    try:
        for _ in range(wanted):
            thread = threading.Thread(target=may_end.wait)
            thread.start()
            started.append(thread)
    except (RuntimeError, MemoryError) as error:
        why = str(error) or "no memory is left"
        raise ShimError(
            f"threads cannot be had ({len(started)} of {wanted}: {why}): see TasksMax= of the"
            " unit, pids.max of its cgroup, ulimit -u"
        ) from error
    finally:
        may_end.set()
        for thread in started:
            thread.join()
