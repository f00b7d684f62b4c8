"""One break of a rule."""

from __future__ import annotations

from dataclasses import dataclass

CLIENT, UPSTREAM, STREAMS = "client_to_upstream.py", "upstream_to_client.py", "streams.py"
ANSWERS, DIRECTION = "answers.py", "direction.py"


@dataclass(frozen=True, slots=True)
class Mutation:
    """One break: in `file`, the only occurrence of `old` becomes `new`."""

    name: str
    file: str
    old: str
    new: str
