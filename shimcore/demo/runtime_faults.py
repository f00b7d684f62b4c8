"""What a stand-in method raises to answer with a gRPC status."""

from __future__ import annotations

from shimcore.errors import ShimError
from shimcore.runtime.errors import StatusCode


class StatusError(ShimError):
    """A status to answer with; `trailers` are sent along as trailing metadata."""

    def __init__(
        self, code: int, details: str, trailers: tuple[tuple[str, str | bytes], ...] = ()
    ) -> None:
        super().__init__(f"{StatusCode(code).name}: {details}")
        self.code = StatusCode(code)
        self.details = details
        self.trailers = trailers
