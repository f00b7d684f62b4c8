from __future__ import annotations

import json

import pytest

from shimcore.config import Fallback
from shimcore.errors import ReferenceSyntaxError
from shimcore.images.explanation import explain, shared_names
from shimcore.registry.answers import Outcome
from tests.unit.images.fakes import DIGEST, HUB, MIRROR, FakeRegistries, config_of

LAST = "last.local:5000"


async def test_every_registry_with_its_outcome() -> None:
    """All are waited for, in the order of priority; the best that has it is resolved."""
    registries = FakeRegistries(
        {HUB: Outcome.UNREACHABLE, MIRROR: Outcome.FOUND, LAST: Outcome.FOUND}
    )
    told = await explain("nginx", config_of(), registries)
    assert (told.canonical, told.resolved) == (
        "docker.io/library/nginx:latest",
        f"{MIRROR}/library/nginx:latest",
    )
    assert (told.rewritten, told.registry, told.digest) == (True, MIRROR, DIGEST)
    assert [(each.registry, each.outcome) for each in told.candidates] == [
        (HUB, "unreachable"),
        (MIRROR, "found"),
        (LAST, "found"),
    ]


async def test_keys_are_fixed() -> None:
    """What `resolve -o json` prints."""
    told = (await explain("nginx", config_of(), FakeRegistries())).as_dict()
    assert list(told) == [
        "image",
        "canonical",
        "resolved",
        "rewritten",
        "registry",
        "digest",
        "elapsed_ms",
        "candidates",
    ]
    assert list(told["candidates"][0]) == [
        "registry",
        "reference",
        "priority",
        "outcome",
        "digest",
        "elapsed_ms",
        "detail",
    ]
    assert json.loads(json.dumps(told)) == told


async def test_offline_asks_nobody() -> None:
    """Each candidate is skipped, and the first one is what would be asked for."""
    told = await explain("nginx", config_of())
    assert {each.outcome for each in told.candidates} == {"skipped"}
    assert told.resolved == f"{HUB}/library/nginx:latest"


@pytest.mark.parametrize("outcome", [Outcome.ABSENT, Outcome.UNREACHABLE])
async def test_nobody_has_it(outcome: Outcome) -> None:
    """The original would be pulled, or nothing under `deny`."""
    registries = FakeRegistries(default=outcome)
    told = await explain("nginx", config_of(), registries)
    assert (told.resolved, told.rewritten) == (told.canonical, False)
    assert {each.outcome for each in told.candidates} == {outcome.value}
    denied = await explain("nginx", config_of(fallback=Fallback.DENY), registries)
    assert denied.resolved is None


async def test_image_of_a_configured_registry() -> None:
    """It is asked for there, and the others are skipped with the reason."""
    told = await explain(f"{MIRROR}/app:v1", config_of(), FakeRegistries({MIRROR: Outcome.FOUND}))
    assert (told.resolved, told.rewritten, told.registry) == (f"{MIRROR}/app:v1", False, MIRROR)
    assert [each.outcome for each in told.candidates] == ["skipped", "found", "skipped"]
    assert "names mirror.local:5000" in told.candidates[0].detail


async def test_excluded_image() -> None:
    """All are skipped, and the pattern is told."""
    told = await explain("nginx", config_of(exclude=("nginx*",)), FakeRegistries())
    assert told.resolved == told.canonical
    assert all("nginx*" in each.detail for each in told.candidates)


async def test_image_id() -> None:
    """IDs name bytes and are never rewritten."""
    told = await explain("sha256:" + "1" * 64, config_of(), FakeRegistries())
    assert (told.resolved, told.candidates) == ("sha256:" + "1" * 64, ())


async def test_no_image_name() -> None:
    """Is the caller's error."""
    with pytest.raises(ReferenceSyntaxError):
        await explain("No/Image", config_of(), FakeRegistries())


async def test_warning_where_domains_are_not_kept_apart() -> None:
    """The same path from another domain would be the same name on that registry."""
    told = await explain("quay.io/org/app:v1", config_of(), FakeRegistries({HUB: Outcome.FOUND}))
    assert len(told.warnings) == 1
    assert "keeps no domains apart" in told.warnings[0]


@pytest.mark.parametrize("hub", ['{path: "{domain}/{path}"}', '{domains: ["quay.io"]}'])
async def test_no_warning_where_they_are(hub: str) -> None:
    """With `{domain}` in the path, or one domain only."""
    config = config_of(f"address: http://sealos.hub:5000\nhub: {hub}\n")
    told = await explain("quay.io/org/app:v1", config, FakeRegistries({HUB: Outcome.FOUND}))
    assert told.warnings == ()


async def test_images_that_share_a_name() -> None:
    """Two of the images that were asked about would become one."""
    config, registries = config_of(), FakeRegistries({HUB: Outcome.FOUND})
    images = ["quay.io/org/app:v1", "org/app:v1", "nginx"]
    told = [await explain(image, config, registries) for image in images]
    (warning,) = shared_names(told)
    assert "docker.io/org/app:v1, quay.io/org/app:v1" in warning
