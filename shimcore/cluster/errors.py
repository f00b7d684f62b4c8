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


class EndedError(ApiUnreachableError):
    """A watch came to an end before its time, as when the server restarts."""


class RefusedError(ClusterError):
    """The server answers and says no; `kind_only`: the other kind may well be allowed."""

    def __init__(self, reason: str, *, kind_only: bool = False) -> None:
        super().__init__(reason)
        self.kind_only = kind_only


class GoneError(ClusterError):
    """The version to go on from is too old (410); list again."""


class NotInstalledError(ClusterError):
    """The client's packages are not installed here."""


def not_installed(module: str | None) -> str:
    """What to do about a module that is missing."""
    missing = (module or "h2").partition(".")[0]
    return (
        f"{missing} is not installed: install image-cri-shim[kubernetes], or set "
        "kubernetes.enabled to false"
    )
