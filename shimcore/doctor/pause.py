"""The pods' pause image: on the node, or where the shim can pull it from."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from shimcore.config import Config, Fallback, Registry
from shimcore.doctor.finding import Finding, failed, passed, warned
from shimcore.doctor.node import Node
from shimcore.doctor.registries import LONGEST_S
from shimcore.doctor.runtime import ANSWER_S, socket_of
from shimcore.doctor.runtime_way import way_of_its_own
from shimcore.errors import ReferenceSyntaxError, ShimError
from shimcore.images.candidates import source_registry
from shimcore.images.explanation import explain
from shimcore.jsontext import text_at
from shimcore.reference import (
    DOCKER_HUB_SERVER,
    Reference,
    Unmapped,
    is_docker_hub,
    parse_reference,
    rewrite,
)
from shimcore.registry.answers import Outcome
from shimcore.registry.client import RegistryClient
from shimcore.runtime import docker
from shimcore.runtime.containerd.route import is_loopback

if TYPE_CHECKING:
    from shimcore.runtime.client import RuntimeClient

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
            return [await _looked_for(node, config, client)]
    except ReferenceSyntaxError as error:
        return [failed(CHECK, str(error), _NO_NAME)]
    except ShimError:
        return []


async def _looked_for(node: Node, config: Config, client: RuntimeClient) -> Finding:
    """Whether the runtime finds it. Raises ReferenceSyntaxError, and ShimError as the runtime's."""
    name = config.sandbox_image or text_at(await client.settings(ANSWER_S), "sandboxImage")
    name = name or await client.sandbox_image(ANSWER_S)
    if not name:
        return warned(CHECK, "its name is not known", _NO_NAME)
    image = parse_reference(name)
    if await client.image_status(name, timeout_s=ANSWER_S) is not None:
        return passed(CHECK, f"{name} is on the node")
    found, on_registry = await _sought(node, config, image, name)
    if on_registry in {"", str(image)} or await client.store.supported():
        return found
    runtime = (await client.version(ANSWER_S)).name
    if runtime == docker.RUNTIME_NAME:
        return found  # its engine gives names
    why = f"{name} is not on the node; {on_registry} is no name that {runtime} looks for"
    return failed(CHECK, why, _tell(runtime, on_registry))


async def _sought(node: Node, config: Config, image: Reference, name: str) -> tuple[Finding, str]:
    """Whether a registry has it, or else the runtime gets it by itself; its name there, or ""."""
    timeout_s = min(config.probe_timeout_s, LONGEST_S)
    made = RegistryClient(config.registries, probe_timeout_s=timeout_s)
    async with aclosing(made) as client:
        resolution = await explain(name, config, client)
        for candidate in resolution.candidates:
            if candidate.outcome == Outcome.FOUND:
                there = f"{name} is not on the node yet; {candidate.registry} has it"
                return passed(CHECK, there), candidate.reference
        said = "; ".join(f"{one.registry} {one.outcome}" for one in resolution.candidates)
        why = f"{name} is not on the node, and no registry has it ({said or 'none asked'})"
        mend = _mend(config, image, name)
        if config.fallback is Fallback.DENY or source_registry(image, config.registries):
            return failed(CHECK, why, mend), ""
        return await _by_itself(node, client, image, why, mend), ""


async def _by_itself(
    node: Node, client: RegistryClient, image: Reference, why: str, mend: str
) -> Finding:
    """Whether the image's own registry gives it to the runtime, as far as that can be seen here."""
    answer = await client.head_manifest(_origin(image), image)
    there = f"{image.domain} {answer.outcome}"
    if answer.outcome is Outcome.FOUND:
        return passed(CHECK, f"{image} is not on the node yet; {image.domain} itself has it")
    if unseen := await way_of_its_own(node, image.domain):
        return warned(CHECK, f"{why}; {there} from here, but {unseen}", mend)
    return failed(CHECK, f"{why}, nor its own ({there})", mend)


def _origin(image: Reference) -> Registry:
    """The registry that the image itself names, as a runtime asks it without settings."""
    domain = image.domain
    host = DOCKER_HUB_SERVER if is_docker_hub(domain) else domain
    scheme = "http" if is_loopback(domain) else "https"
    return Registry.unconfigured(f"{scheme}://{host}", scheme, domain)


def _mend(config: Config, image: Reference, name: str) -> str:
    """The command that puts it on the hub, where the hub is asked for it.

    Of a name with a tag and a digest skopeo takes one: the digest says what, the tag what it is
    called there.
    """
    mapped = rewrite(image, config.hub.mirror)
    if isinstance(mapped, Unmapped):
        return f"let a registry serve it ({mapped.reason}), and put it there"
    plain = config.hub.scheme == "http" or config.hub.insecure_skip_verify
    options = " --dest-tls-verify=false" * plain
    options += " --dest-creds USER:PASSWORD" * (config.hub.credentials is not None)
    source, there = name, str(mapped)
    if image.digest is not None:
        options += " --preserve-digests"
    if image.tag is not None and image.digest is not None:
        source = f"{image.name}@{image.digest}"
        there = there.partition("@")[0]
    return (
        f"skopeo copy --all{options} docker://{source} docker://{there}"
        "  # where both are reached; or name one that the hub has in the runtime's own "
        "configuration (containerd: sandbox_image, from 2.0 pinned_images.sandbox)"
    )


def _tell(runtime: str, name: str) -> str:
    """What has a runtime use that name of the pause image, as it can give none to an image."""
    if runtime != "cri-o":
        return f"name {name} as the pause image in {runtime}'s own configuration"
    setting = f"""[crio.image]\\npause_image = "{name}"\\n"""
    file = "/etc/crio/crio.conf.d/50-pause.conf"
    put = f"printf '{setting}' | install -D -m 644 /dev/stdin {file}"
    return f"{put} && systemctl reload crio"
