"""The pods' pause image: on the node, or where the shim can pull it from."""

from __future__ import annotations

import json

from shimcore.config import Config, Fallback
from shimcore.doctor.finding import Finding, failed, passed, warned
from shimcore.doctor.node import Node
from shimcore.doctor.runtime import ANSWER_S, socket_of
from shimcore.errors import ReferenceSyntaxError, ShimError
from shimcore.images.explanation import explain
from shimcore.reference import Reference, parse_reference
from shimcore.registry import RegistryClient
from shimcore.registry.answers import Outcome

CHECK = "pause image"
_NO_NAME = "set sandboxImage to the pause image that the runtime is configured with"


async def look(node: Node) -> list[Finding]:
    """Nothing where the runtime cannot be asked, which is told as its own fault."""
    from shimcore.runtime.client import RuntimeClient  # noqa: PLC0415 - loads grpc

    config = node.config
    if config is None:
        return []
    try:
        async with RuntimeClient(await socket_of(node)) as client:
            name = config.sandbox_image or _told(await client.info(ANSWER_S))
            name = name or await client.sandbox_image(ANSWER_S)
            if not name:
                return [warned(CHECK, "its name is not known", _NO_NAME)]
            image = parse_reference(name)
            if await client.image_status(name, timeout_s=ANSWER_S) is not None:
                return [passed(CHECK, f"{name} is on the node")]
    except ReferenceSyntaxError as error:
        return [failed(CHECK, str(error), _NO_NAME)]
    except ShimError:
        return []
    return [await _sought(config, image, name)]


async def _sought(config: Config, image: Reference, name: str) -> Finding:
    """Whether a registry has it."""
    client = RegistryClient(config.registries, probe_timeout_s=config.probe_timeout_s)
    try:
        resolution = await explain(name, config, client)
    finally:
        await client.aclose()
    said = []
    for candidate in resolution.candidates:
        if candidate.outcome == Outcome.FOUND:
            return passed(CHECK, f"{name} is not on the node yet; {candidate.registry} has it")
        said.append(f"{candidate.registry} {candidate.outcome}")
    why = f"{name} is not on the node, and no registry has it ({'; '.join(said) or 'none asked'})"
    hub = config.hub.host
    tag = f":{image.tag}" if image.tag else ""
    mend = (
        f"put it on the hub ({hub}/{image.path}{tag}), or name one that it has in the runtime's "
        "own configuration (containerd: sandbox_image, from 2.0 pinned_images.sandbox)"
    )
    if config.fallback is Fallback.DENY:
        return failed(CHECK, why, mend)
    return warned(CHECK, f"{why}; the runtime itself will ask {image.domain}", mend)


def _told(info: dict[str, str]) -> str:
    """The runtime's own word (CRI's Status, verbose)."""
    try:
        told = json.loads(info.get("config", "{}"))
    except (ValueError, RecursionError):
        return ""
    name = told.get("sandboxImage") if isinstance(told, dict) else None
    return name if isinstance(name, str) else ""
