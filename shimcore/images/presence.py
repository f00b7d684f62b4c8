"""What a person wants to know of an image beside its names: is it here, and for which machines."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shimcore.errors import ShimError
from shimcore.reference import parse_reference
from shimcore.runtime.detection import detect_socket, socket_doubt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shimcore.config import Config
    from shimcore.images.explanation import Resolution
    from shimcore.registry.client import RegistryClient

ANSWER_S = 2.0


@dataclass(frozen=True, slots=True)
class Presence:
    """Of one image: its ID on the node, "" where it is not there, None where nobody says; the
    platforms that the registry has it for, none where it does not tell them apart.
    """

    image_id: str | None = None
    platforms: tuple[str, ...] = ()


async def presences(
    resolutions: Sequence[Resolution], config: Config, client: RegistryClient | None
) -> list[Presence]:
    """One for each, in their order; without `client` no registry is asked. Raises nothing."""
    names = [each.canonical for each in resolutions]
    asked = (_platforms(each, config, client) for each in resolutions)
    ids, platforms = await asyncio.gather(
        _image_ids(names, config.runtime_socket), asyncio.gather(*asked)
    )
    return [Presence(ids.get(name), there) for name, there in zip(names, platforms, strict=True)]


async def _image_ids(names: Sequence[str], socket: str | None) -> dict[str, str]:
    """By name the image's ID, or ""; without the names of which the runtime says nothing."""
    if await socket_doubt(socket):
        return {}
    from shimcore.runtime.client import RuntimeClient  # noqa: PLC0415 - loads grpc

    found: dict[str, str] = {}
    try:
        async with RuntimeClient(socket or await detect_socket()) as runtime:
            for name in names:
                image = await runtime.image_status(name, timeout_s=ANSWER_S)
                found[name] = image.id if image else ""
    except ShimError:
        return found
    return found


async def _platforms(
    resolution: Resolution, config: Config, client: RegistryClient | None
) -> tuple[str, ...]:
    registry = next((one for one in config.registries if one.host == resolution.registry), None)
    if client is None or registry is None or resolution.resolved is None:
        return ()
    return await client.platforms(registry, parse_reference(resolution.resolved))
