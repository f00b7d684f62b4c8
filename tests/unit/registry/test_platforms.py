"""Which platforms an index names, whatever it holds."""

from __future__ import annotations

import json

import pytest

from shimcore.registry.manifest import PLATFORMS_LIMIT, platforms_in

AMD = {"platform": {"os": "linux", "architecture": "amd64"}}
ARM = {"platform": {"os": "linux", "architecture": "arm", "variant": "v7"}}
ATTESTATION = {"platform": {"os": "unknown", "architecture": "unknown"}}


def test_each_once_and_no_attestation() -> None:
    """In the order of the index."""
    index = json.dumps({"manifests": [ARM, AMD, ATTESTATION, AMD]}).encode()
    assert platforms_in(index) == ("linux/arm/v7", "linux/amd64")


@pytest.mark.parametrize(
    "tree",
    [
        {},
        [],
        {"manifests": {}},
        {"manifests": [1, {}, {"platform": 1}, {"platform": {"os": ["x"]}}]},
        {"manifests": [{"platform": {"os": "x" * 1000, "architecture": "y"}}]},
    ],
)
def test_what_is_no_index_names_none(tree: object) -> None:
    """And breaks nothing."""
    assert platforms_in(json.dumps(tree).encode()) == ()
    assert platforms_in(b"[" * 100_000) == platforms_in(b"\xff") == ()


def test_there_is_a_bound() -> None:
    """A registry cannot fill a screen."""
    many = [{"platform": {"os": "linux", "architecture": str(n)}} for n in range(1000)]
    assert len(platforms_in(json.dumps({"manifests": many}).encode())) == PLATFORMS_LIMIT
