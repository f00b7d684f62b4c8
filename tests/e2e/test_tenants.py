"""Two pods want one private image of its own registry; one of them has the login."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.conftest import HUB_LOGIN, MIRROR_LOGIN, Shims, on_node
from tests.e2e.support import images
from tests.e2e.support.cri_client import CallError, CriClient
from tests.e2e.support.recorder import Recorder
from tests.e2e.support.registry import Registry
from tests.e2e.support.shim import Shim

pytestmark = [pytest.mark.e2e, pytest.mark.releases]

USERNAME, _, PASSWORD = HUB_LOGIN.partition(":")
ROUNDS = 6
_serial = itertools.count(1)


@pytest.fixture
def before_mirror(shims: Shims, mirror: Registry) -> Shim:
    """A shim whose hub has none of the private images."""
    assert mirror.certificate is not None
    hub: dict[str, Any] = {"caFile": str(mirror.certificate.ca)}
    return shims.serve({"address": mirror.address, "auth": MIRROR_LOGIN, "hub": hub})


def private(registry: Registry, at: Recorder) -> tuple[str, images.Image]:
    """A new image that nobody gets without a login: its whole name, itself."""
    name = f"team/private-{next(_serial)}"
    image = images.small(name, 20_000)
    registry.push(image, name, "1")
    return f"{at.host}/{name}:1", image


Login = tuple[str, str] | None


def outcomes(shim: Shim, image: str, logins: Sequence[Login]) -> list[str]:
    """One of each pull, all at once."""
    with ThreadPoolExecutor(len(logins)) as pool:
        return list(pool.map(lambda login: outcome(shim, image, login), logins))


def outcome(shim: Shim, image: str, login: Login) -> str:
    """The image's ID, or the status of the refusal and its words."""
    username, password = login or ("", "")
    with CriClient(shim.socket) as client:
        try:
            return client.pull(image, username=username, password=password)
        except CallError as error:
            return f"{error.code.name}: {error.details}"


@pytest.mark.parametrize("wrong", [None, ("hub-user", "wrong")], ids=["no login", "wrong login"])
def test_at_the_same_time(
    wrong: Login,
    before_mirror: Shim,
    hub: Recorder,
    registry: Registry,
    node_client: CriClient,
) -> None:
    """Each pull is judged by its own login, whichever was there first."""
    hub.delay_s = 0.1
    for number in range(ROUNDS):
        image, built = private(registry, hub)
        logins: list[Login] = [(USERNAME, PASSWORD), wrong]
        order = logins if number % 2 else logins[::-1]
        said = outcomes(before_mirror, image, order)
        granted, refused = said if number % 2 else said[::-1]
        assert granted == built.id
        assert "401" in refused or "authorization failed" in refused, refused
        assert "image-cri-shim: " in refused
        assert PASSWORD not in refused
        assert f"{image}" in on_node(node_client)


def test_alike_logins_share_a_pull(before_mirror: Shim, hub: Recorder, registry: Registry) -> None:
    """Five pods with one login cost the registry one pull."""
    image, built = private(registry, hub)
    hub.delay_s = 0.1
    said = outcomes(before_mirror, image, [(USERNAME, PASSWORD)] * 5)
    assert said == [built.id] * 5
    layers = [seen for seen in hub.seen if seen.path.endswith(built.layers[0].digest)]
    assert len([seen for seen in layers if seen.status == 200]) == 1
