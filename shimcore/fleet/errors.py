"""What can go wrong between a pod and its node."""

from __future__ import annotations

from shimcore.errors import ShimError


class FleetError(ShimError):
    """Base: a roll-out cannot go on here."""


class BundleError(FleetError):
    """The bundle cannot be put on the node."""
