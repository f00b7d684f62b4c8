"""What becomes of a call, by its method."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum, auto
from urllib.parse import unquote_to_bytes

from shimcore.relay.headers import Field


class Route(Enum):
    """Whether a method's requests are opened, and what becomes of one that cannot be read."""

    PASS = auto()  # goes on unread
    OPEN = auto()  # held for a decision; released as it came where it is not understood
    LONG = auto()  # as OPEN, and the decision may take as long as a pull
    STRICT = auto()  # as LONG, and refused where it is not understood


def disguised(path: bytes, fields: Iterable[Field], route: Callable[[bytes], Route]) -> bool:
    """Whether some server might take a request to `path` for one of a strict method.

    grpc-go takes the last of several `:path` fields, and long took one without its first
    slash; net/http decodes percent signs and takes a query off.
    """
    paths = {value for name, value in fields if name == b":path"}
    if len(paths) > 2:
        return True  # none that a client makes
    paths |= {unquote_to_bytes(value.partition(b"#")[0].partition(b"?")[0]) for value in paths}
    paths |= {b"/" + value.lstrip(b"/") for value in paths}
    return any(route(other) is Route.STRICT for other in paths if other != path)
