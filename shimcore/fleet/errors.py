"""What can go wrong between a pod, its node and the API server."""

from __future__ import annotations

from shimcore.errors import ShimError


class FleetError(ShimError):
    """Base: a roll-out cannot go on here."""


class ApiAwayError(FleetError):
    """The API server cannot be reached, or does not answer as it should; try again later."""


class ApiRefusedError(FleetError):
    """The API server answers and says no; `status` is HTTP's."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class ConflictError(ApiRefusedError):
    """Somebody else changed the object since it was read (409); read it again."""


class MissingError(ApiRefusedError):
    """There is no such object (404)."""


class BundleError(FleetError):
    """The bundle cannot be put on the node."""
