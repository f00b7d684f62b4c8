"""Why the API server gives no answer; all of it passes, and none of it stops the shim."""

from __future__ import annotations

from shimcore.errors import ShimError


class ClusterError(ShimError):
    """Base; the text is for the log and holds no secret."""


class ApiUnreachableError(ClusterError):
    """The server cannot be reached, or does not answer as it should; try again later."""

    def __init__(self, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class BusyError(ApiUnreachableError):
    """The server answers that it cannot answer now (429, 5xx)."""


class TooLongError(ApiUnreachableError):
    """The answer is longer than is read; so would it be again."""


class EndedError(ApiUnreachableError):
    """A watch came to an end before its time, as when the server restarts."""


class RefusedError(ClusterError):
    """The server answers and says no; `status` is HTTP's."""

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.status = status

    @property
    def kind_only(self) -> bool:
        """Whether another kind of object may well be allowed."""
        return self.status != 401


class ConflictError(RefusedError):
    """Somebody else changed the object since it was read (409); read it again."""


class MissingError(RefusedError):
    """There is no such object (404)."""


class GoneError(ClusterError):
    """The version to go on from is too old (410), or newer than the server's; list again."""
