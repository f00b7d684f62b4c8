"""Wall-clock jumps for one process: `time.time` is off by what the file $SOAK_CLOCK says."""

import contextlib
import os
import sys
import time

_real = time.time
_file = os.environ.get("SOAK_CLOCK", "")


def _jumping() -> float:
    # grpc compares with the clock of its C core, which would have jumped with the machine's.
    if sys._getframe(1).f_globals.get("__name__", "").startswith("grpc"):
        return _real()
    with contextlib.suppress(OSError, ValueError), open(_file, encoding="ascii") as opened:
        return _real() + float(opened.read())
    return _real()


if _file:
    time.time = _jumping
