"""The proof: an image pulled through the shim, as kubelet would; and why it is not looked for."""

from __future__ import annotations

import asyncio

from shimcore.client import pull as client
from shimcore.config import Config, Fallback
from shimcore.doctor.finding import Finding, failed, passed, warned
from shimcore.doctor.node import Node
from shimcore.errors import ReferenceSyntaxError, ShimError
from shimcore.images.candidates import candidates_of
from shimcore.reference import parse_reference

BOUND_S = 900.0
"""As `timeout`; an image of some GB takes minutes."""

_PLATFORM = "put the image on the hub for this node's platform"
_WAY = "mend the runtime's way to the registry, which is told above"
_MENDS = (
    ("no space left", "crictl rmi --prune"),
    ("no match for platform", _PLATFORM),
    ("no registry gives", "put it on the hub, or let names be pulled with fallback: allow"),
    ("x509", _WAY),
    ("http: server gave http response", _WAY),
    ("not found", "push the image anew: a part of it is missing on the registry"),
)


async def look(node: Node, image: str) -> list[Finding]:
    """What comes of it, after what keeps the image from being looked for."""
    check = f"pull {image}"
    try:
        name = parse_reference(image)
    except ReferenceSyntaxError as error:
        return [failed(check, str(error), "name an image, such as nginx:1.27")]
    found = []
    if node.config is not None:
        found = await asyncio.to_thread(_candidates, node, node.config, image)
    names, _ = client.wanted([str(name) if "@" in image else image])
    try:
        (step,) = await client.pull(node.endpoint, names, 1, lambda _: None)
    except ShimError as error:
        return [*found, failed(check, str(error), "see the socket above")]
    if not step.error:
        source = f" from {step.registry}" if step.registry else ""
        return [*found, passed(check, f"pulled{source} in {step.elapsed_s:.1f} s")]
    mends = [mend for words, mend in _MENDS if words in step.error.lower()]
    see = f"{node.command('history --failed')}  # has each registry's reason"
    return [*found, failed(check, step.error, mends[0] if mends else see)]


def _candidates(node: Node, config: Config, image: str) -> list[Finding]:
    """What keeps the image from being looked for at registries."""
    name = parse_reference(image)
    candidates = candidates_of(name, config)
    check = f"candidates of {image}"
    if candidates.excluded_by is not None:
        why = f"exclude catches it ({candidates.excluded_by}): it is pulled from its own registry"
        mend = f"in {config.source}, take {candidates.excluded_by} out of exclude{node.reload}"
        return [warned(check, why, f"{mend}  # unless it is wanted")]
    said = "; ".join(f"{one.registry.host}: {one.reason}" for one in candidates.skipped)
    if candidates.ranked or candidates.source is not None:
        where = [str(one.reference) for one in candidates.ranked] or [image]
        return [passed(check, ", ".join(where) + f" (not {said})" * bool(said))]
    mend = f"in {config.source}, add {name.domain} to the domains of the registry that has it"
    mend = f"{mend}{node.reload}  # unless it is wanted"
    if config.fallback is Fallback.DENY:
        why = f"no registry serves it, and fallback: deny refuses its own ({said})"
        return [failed(check, why, mend)]
    return [warned(check, f"no registry serves it ({said})", mend)]
